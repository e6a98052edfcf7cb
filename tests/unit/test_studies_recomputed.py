"""The committed verdicts, computed again from their records by independent code: SciPy, and formulas read as text."""

import json
import re
from html import escape
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

FOLDER = Path(__file__).parents[2] / "docs" / "studies"
FILES = sorted(FOLDER.glob("*.json"))
PLACE = re.compile(r'(\w+)\["([^"]+)"(?:, "([^"]+)")?\]')
SHARES = {"accuracy", "val_accuracy", "shape_bias", "near", "far", "between"}
NAMES = {"accuracy": "test_accuracy", "train_accuracy": "train_accuracy", "val_accuracy": "val_accuracy"}
NAMES |= {"mIoU": "test_mIoU"}


@pytest.fixture(params=FILES, ids=[file.stem for file in FILES])
def record(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def number_in(runs, seed):
    """Replace a measure in a formula by its number."""

    def number(found):
        measure, arm, condition = found.groups()
        own = (run for run in runs if (run["seed"], run["arm"]) == (seed, arm))
        run = next(run for run in own if condition in (None, run["condition"]))
        if measure in NAMES:
            return repr(run["record"][NAMES[measure]])
        return repr(run["size"][measure] if measure in run["size"] else run["measures"][measure])

    return number


def effects_of(record, formula):
    seeds = sorted({run["seed"] for run in record["runs"]})
    known = {"mean": lambda *values: sum(values) / len(values), "min": min, "max": max, "abs": abs, "log2": np.log2}
    return [float(eval(PLACE.sub(number_in(record["runs"], seed), formula), {}, known)) for seed in seeds]


def above(values, border):
    """The p-value of a mean this far above the border, if the border were the true effect."""
    spread = max(np.std(values, ddof=1), 1e-3) / np.sqrt(len(values))
    return stats.t.sf((np.mean(values) - border) / spread, len(values) - 1)


def decided(rule, values):
    border = rule["border"]
    if rule["kind"] == "exactly":
        return ("holds" if max(map(abs, values)) <= border else "broken"), 0.0
    if rule["kind"] == "beyond":
        sides = {"supported": above(values, border), "refuted": 1 - above(values, border)}
    else:
        inside = max(above(values, -border), 1 - above(values, border))
        outside = min(above(values, border), 1 - above(values, -border))
        sides = {"supported": inside, "refuted": outside}
    side = min(sides, key=sides.get)
    return side, min(1.0, 2 * sides[side])


def at_ceiling(record, one, verdict):
    """Whether the arms that a hypothesis compares by accuracy are all above 95 %, and no difference is found."""
    places = PLACE.findall(one["effect"])
    if len({arm for _, arm, _ in places}) < 2 or not {measure for measure, *_ in places} <= SHARES:
        return False
    shares = [
        np.mean(effects_of(record, f'{measure}["{arm}", "{condition}"]' if condition else f'{measure}["{arm}"]'))
        for measure, arm, condition in places
    ]
    difference = "supported" if one["rule"]["kind"] == "beyond" and one["rule"]["border"] >= 0 else "refuted"
    return one["rule"]["kind"] != "exactly" and min(shares) > 0.95 and verdict != difference


def test_effects_follow_from_the_runs(record):
    for one in record["hypotheses"]:
        if None not in one["effects"]:
            assert effects_of(record, one["effect"]) == pytest.approx(one["effects"], rel=1e-9, abs=1e-12)


def test_verdicts_follow_from_effects(record):
    measured = [one for one in record["hypotheses"] if one["verdict"] != "not measured"]
    found = [decided(one["rule"], one["effects"]) for one in measured]
    estimated = sorted(
        (p, place) for place, (one, (_, p)) in enumerate(zip(measured, found)) if one["rule"]["kind"] != "exactly"
    )
    corrected, largest = {}, 0.0
    for rank, (p, place) in enumerate(estimated):
        largest = max(largest, (len(estimated) - rank) * p)
        corrected[place] = largest
    for place, (one, (side, _)) in enumerate(zip(measured, found)):
        verdict = side if corrected.get(place, 0.0) <= 0.05 else "inconclusive"
        limited = "cannot differ here" if at_ceiling(record, one, verdict) else verdict
        assert one["verdict"] == limited, one["sentence"]
        if one["rule"]["kind"] != "exactly":
            effects = one["effects"]
            spread = max(np.std(effects, ddof=1), 1e-3) / np.sqrt(len(effects))
            low, high = stats.t.interval(0.95, len(effects) - 1, np.mean(effects), spread)
            assert one["interval"] == pytest.approx([low, high], rel=1e-6, abs=1e-9)


def test_the_studys_verdict_is_that_of_its_first_hypothesis_about_matched_arms(record):
    matched = [not one["context"] for one in record["hypotheses"]]
    assert record["deciding"] == matched.index(True)
    first = record["hypotheses"][record["deciding"]]["verdict"]
    first = {"holds": "supported", "broken": "refuted"}.get(first, first)
    if record["reached"] is not None and not record["reached"][0] >= record["reached"][1]:
        first = "reference model not trained well enough"
    assert record["verdict"] == first
    page = (FOLDER / f"{record['study']}.html").read_text(encoding="utf-8")
    assert f'<p class="headline sentence">{escape(record["headline"])}</p>'.replace("&#x27;", "&#39;") in page
    assert record["headline"].startswith(f"{record['scope']}: ")


def test_every_run_is_counted(record):
    """Runs that diverged or failed are in the records with a reason."""
    assert all(run["status"] == "done" or run["why"] for run in record["runs"])
    assert record["origin"]["machine"]["cpu"] and record["origin"]["versions"]["torch"]
