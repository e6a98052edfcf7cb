"""Write what studies found: the records as JSON, a page each, and one page of all."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from vitral.base.errors import StoreError
from vitral.base.files import write_file
from vitral.report.page import Picture, render
from vitral.report.studies import Row, findings_figure
from vitral.report.style import png
from vitral.studies.arms import BAG, SHUFFLED
from vitral.studies.results import Finding, Results
from vitral.studies.rules import Beyond, Within
from vitral.studies.study import Preset, studies

ORIGIN = ("machine", "versions", "time", "code")  # of all records alike, so kept once
ROUNDING = 1e-12  # what is smaller is 0, but for rounding
ALIKE = 0.02  # of accuracy: what is no more than this ahead of a control is not ahead


def write_study(results: Results, folder: Path) -> Path:
    """The records and the page of one study; the page's path."""
    write_file(folder / f"{results.study.name}.json", json.dumps(recorded(results), indent=1) + "\n")
    page = folder / f"{results.study.name}.html"
    write_file(page, render("study.html", page=contents(results)))
    return page


def recorded(results: Results) -> dict[str, Any]:
    """Everything a verdict is computed from, and the verdict, as plain values."""
    runs = [*results.sweep, *results.runs]
    return {
        "study": results.study.name,
        "preset": results.preset,
        "claim": results.study.claim,
        "verdict": results.verdict,
        "sentence": results.sentence,
        "reached": results.reached,
        "hypotheses": [said(finding) for finding in results.findings],
        "origin": {key: newest(runs).get(key) for key in ORIGIN},
        "sweep": [own(run) for run in results.sweep],
        "runs": [own(run) for run in results.runs],
    }


def newest(runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return max(runs, key=lambda run: run.get("time", ""), default={})


def own(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in ORIGIN}


def said(finding: Finding) -> dict[str, Any]:
    rule = finding.hypothesis.rule
    decided = finding.decided
    return {
        "sentence": finding.hypothesis.sentence,
        "effect": finding.hypothesis.effect,
        "rule": {"kind": type(rule).__name__.lower(), "border": next(iter(vars(rule).values()))},
        "effects": [None if math.isnan(value) else value for value in finding.effects],
        "mean": decided and decided.mean,
        "interval": decided and [finite(decided.low), finite(decided.high)],
        "p": decided and decided.p,
        "corrected": decided and finding.corrected,
        "verdict": finding.verdict,
    }


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read(folder: Path) -> list[Results]:
    """The studies whose records are in a folder, in their order. Raises `StoreError` for a file that is none."""
    found = []
    for name, study in studies().items():
        file = folder / f"{name}.json"
        if not file.is_file():
            continue
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            preset, origin = record["preset"], record["origin"]
            assert preset in get_args(Preset)
            runs, sweep = ([{**run, **origin} for run in record[key]] for key in ("runs", "sweep"))
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise StoreError(f"{file} is no record of a study: {error}.") from error
        found.append(Results(study.within(preset), preset, tuple(runs), tuple(sweep)))
    return found


def write_summary(every: Sequence[Results], folder: Path, site: str = "") -> Path:
    """The page of all studies; its path. `site` is where its first word leads, if it is part of one."""
    preset = every[0].preset
    seconds = sum(run["seconds"] for results in every for run in (*results.runs, *results.sweep))
    rows = [
        {
            "number": results.study.number,
            "name": results.study.name,
            "title": results.study.title,
            "claim": results.study.claim,
            "word": word_of(results),
            "sentence": results.sentence,
            "hypothesis": results.study.hypotheses[0].sentence,
            "effect": row_of(results.findings[0])["effect"],
            "rule": results.study.hypotheses[0].rule.words,
        }
        for results in every
    ]
    page = {
        "site": site,
        "detail": "What is said about Vision Transformers and convolutional networks, tested on one machine with small "
        "models on drawn images: each verdict is about these, and names them.",
        "facts": {
            "claims": f"{len(every)} of {len(studies())}",
            "runs": f"{sum(len(results.runs) + len(results.sweep) for results in every):,}",
            "preset": preset,
            "processor time": duration(seconds),
        },
        "rows": rows,
        "repeat": f"vitral study run all --preset {preset}",
    }
    path = folder / "index.html"
    write_file(path, render("studies.html", page=page))
    return path


def word_of(results: Results) -> str:
    return "smoke" if results.preset == "smoke" else results.verdict


def contents(results: Results) -> dict[str, Any]:
    """What the template of a study's page shows."""
    study, budget = results.study, results.study.budgets[results.preset]
    runs = [*results.sweep, *results.runs]
    origin = newest(runs)
    trainings = {
        json.dumps(run["training"], sort_keys=True): run["training"]["samples"] for run in runs if "training" in run
    }
    return {
        "number": study.number,
        "title": study.title,
        "word": word_of(results),
        "sentence": results.sentence,
        "regime": regime_words(results),
        "claim": study.claim,
        "correction": study.correction,
        "question": study.question,
        "facts": {
            "preset": results.preset,
            "seeds": str(len(results.seeds)),
            "trainings": f"{sum(1 for samples in trainings.values() if samples):,}",
            "samples in all": f"{sum(trainings.values()):,}",
            "processor time": duration(sum(run["seconds"] for run in runs)),
        },
        "pictures": [*(picture(draw(results)) for draw in study.figures), *effects_pictures(results)],
        "findings": [row_of(finding) for finding in results.findings],
        "done": done_words(results, budget.samples, budget.rates),
        "controls": controls_words(results),
        "conditions": [
            {"name": one.name, "data": one.data, "change": one.change or "nothing"} for one in study.conditions
        ],
        "arms": [arm_row(results, arm.name) for arm in study.arms],
        "lost": [
            f"{run['arm']}, {run['condition']}, seed {run['seed']}: {run['status']}. {run.get('why', '')}"
            for run in results.lost
        ],
        "known": {"Exact: proved, and tested": study.exact, "Published elsewhere": study.published},
        "would_change": study.would_change,
        "repeat": f"vitral study run {study.name} --preset {results.preset}",
        "origin": flat(origin.get("machine", {})) | flat(origin.get("versions", {})) | {"time": origin.get("time", "")},
    }


def duration(seconds: float) -> str:
    """In the unit in which it is neither nothing nor hundreds."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}" if seconds < 10 * length else f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def flat(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}


def picture(drawn: tuple[Any, str]) -> Picture:
    figure, caption = drawn
    return Picture(png(figure), caption, caption)


def effects_pictures(results: Results) -> list[Picture]:
    """One, or none where no hypothesis could be decided."""
    rows: list[tuple[str, Row, float | None, float | None]] = []
    for finding in results.findings:
        decided, rule = finding.decided, finding.hypothesis.rule
        if decided is None:
            continue
        low = rule.least if isinstance(rule, Beyond) else -rule.most if isinstance(rule, Within) else None
        high = rule.most if isinstance(rule, Within) else None
        row = Row("", np.asarray(finding.effects), (decided.mean, decided.low, decided.high))
        rows.append((finding.hypothesis.sentence, row, low, high))
    caption = (
        "Each hypothesis' effect: grey dots are seeds, the bar is the interval of their mean, dashed lines are the "
    )
    caption += "borders of its rule."
    return [Picture(png(findings_figure(rows)), caption, caption)] if rows else []


def row_of(finding: Finding) -> dict[str, str]:
    decided = finding.decided
    interval = "" if decided is None else f"{number(decided.mean)} ({number(decided.low)} to {number(decided.high)})"
    return {
        "sentence": finding.hypothesis.sentence,
        "formula": finding.hypothesis.effect,
        "rule": finding.hypothesis.rule.words,
        "effect": interval,
        "p": "" if decided is None or not decided.p else f"{finding.corrected:.2g}",
        "word": finding.verdict,
    }


def number(value: float) -> str:
    """With three digits."""
    return f"{0.0 if abs(value) < ROUNDING else value:.3g}"


def arm_row(results: Results, name: str) -> dict[str, str]:
    arm = next(arm for arm in results.study.arms if arm.name == name)
    runs = [run for run in results.runs if run["arm"] == name]
    size = next((run["size"] for run in runs if "size" in run), None)
    rates = sorted(
        {run["training"]["recipe"]["lr"] for run in runs if "training" in run and run["training"]["samples"]}
    )
    return {
        "name": name,
        "parameters": f"{size['parameters']:,}" if size else "",
        "macs": f"{size['macs'] / 1e6:.1f} M" if size else "",
        "rate": ", ".join(f"{rate:g}" for rate in rates) or "untrained",
        "runs": str(len(runs)),
        "matched": f"no: {arm.unmatched}" if arm.unmatched else "parameters and multiply-adds",
    }


def regime_words(results: Results) -> str:
    """What the verdict is about: models, data, samples. A model of this size refutes nothing about a large one."""
    sizes = [run["size"]["parameters"] for run in results.runs if "size" in run]
    data = sorted({condition.data.partition(":")[0] for condition in results.study.conditions if condition.data})
    samples = results.study.budgets[results.preset].samples
    if not samples:
        return "Nothing was trained: it is about this machine, and these sizes."
    least, most = min(sizes, default=0), max(sizes, default=0)
    about = f"models of {least:,} to {most:,} parameters" if least < most else f"models of {most:,} parameters"
    return (
        f"Measured on {' and '.join(data)} with {about}, after {samples:,} samples a training: it says nothing about "
        "larger models or photographs."
    )


def controls_words(results: Results) -> str:
    """What those reach that cannot do what is asked about: a bag of patches, and a model of shuffled labels."""
    regime = results.study.regime
    if regime is None:
        return ""
    said = []
    for condition in results.conditions:
        bag, reference = (results.values("accuracy", arm, condition) for arm in (BAG.name, regime.arm))
        if len(bag) and len(reference):
            ahead = float(reference.mean() - bag.mean())
            meaning = (
                f"letting them meet is worth {100 * ahead:.0f} points"
                if ahead > ALIKE
                else "such images can be told from their patches alone, and accuracy on them says nothing of whether "
                "tokens must meet"
            )
            said.append(
                f"{condition}: a bag of patches, in which no token meets another, gets {bag.mean():.1%} right, where "
                f"{regime.arm} gets {reference.mean():.1%}; {meaning}."
            )
        if len(shuffled := results.values("accuracy", SHUFFLED.name, condition)):
            said.append(f"{condition}, labels shuffled: {shuffled.mean():.1%}, since there is nothing to learn.")
    return " ".join(said)


def done_words(results: Results, samples: int, rates: tuple[float, ...]) -> str:
    said = [f"Every arm on every condition with {len(results.seeds)} seeds"]
    if samples:
        said[0] += ", which decide the images, their order and the weights alike for all arms"
        said[0] += f"; {samples:,} samples a training"
    said[0] += "."
    if len(rates) > 1:
        said += swept_words(results, rates)
    if results.reached:
        reached, least = results.reached
        said.append(f"The reference arm stands at {reached:.1%} on validation images; {least:.0%} were asked for.")
    return " ".join(said)


def swept_words(results: Results, rates: tuple[float, ...]) -> list[str]:
    """How learning rates were chosen; and whose lies at an end of its sweep, so that a better one may lie beyond."""
    trained = [run for run in results.runs if run.get("training", {}).get("samples")]
    base = {run["arm"]: f"{run['training']['recipe']['lr'] / run['rate']:g}" for run in trained}
    usual = Counter(base.values()).most_common(1)[0][0] if base else ""
    others = "".join(f"; {arm} {rate}" for arm, rate in base.items() if rate != usual)
    multiples = ", ".join(f"{rate:g}" for rate in rates)
    said = [
        f"Each arm's learning rate is the best of {multiples} times its base rate ({usual}{others}) on validation "
        "images; of equally good ones, that nearest to the base rate."
    ]
    for end, rate in (("highest", max(rates)), ("lowest", min(rates))):
        if there := [arm for arm in base if any(run["rate"] == rate for run in trained if run["arm"] == arm)]:
            who = "every arm" if len(there) == len(base) else "; ".join(there)
            said.append(
                f"The {end} was chosen for {who}: {'higher' if end == 'highest' else 'lower'} ones were not tried."
            )
    return said
