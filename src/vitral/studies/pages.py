"""Write what studies found: the records as JSON, one page per study, and one page for all."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure

from vitral.base.errors import StoreError
from vitral.base.files import write_file
from vitral.data.class_names import list_names
from vitral.report.page import Picture, render
from vitral.report.studies import Row, findings_figure
from vitral.report.style import png
from vitral.studies.arms import BAG, SHUFFLED
from vitral.studies.results import Finding, Results
from vitral.studies.study import MATCHED, Arm, Preset, studies

ORIGIN = ("machine", "versions", "time", "code")  # of a record; written once for all records of a study
ROUNDING = 1e-12  # smaller numbers are zero but for rounding
SAME_ACCURACY = 0.02  # a smaller lead over a control is not counted as one


def write_study(results: Results, folder: Path) -> Path:
    """Write the records and the page of one study; return the page's path."""
    write_file(folder / f"{results.study.name}.json", json.dumps(study_record(results), indent=1) + "\n")
    page = folder / f"{results.study.name}.html"
    write_file(page, render("study.html", study=results.study, page=page_content(results)))
    return page


def study_record(results: Results) -> dict[str, Any]:
    """Everything that a verdict is computed from, and the verdict, as plain values."""
    runs = [*results.sweep, *results.runs]
    return {
        "study": results.study.name,
        "preset": results.preset,
        "claim": results.study.claim,
        "verdict": results.verdict,
        "headline": results.headline,
        "scope": results.scope,
        "sentence": results.sentence,
        "reached": results.reference_accuracy,
        "deciding": results.study.deciding,
        "hypotheses": [finding_record(finding) for finding in results.findings],
        "origin": {key: newest(runs).get(key) for key in ORIGIN},
        "sweep": [without_origin(run) for run in results.sweep],
        "runs": [without_origin(run) for run in results.runs],
    }


def newest(runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return max(runs, key=lambda run: run.get("time", ""), default={})


def without_origin(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in ORIGIN}


def finding_record(finding: Finding) -> dict[str, Any]:
    rule, decision = finding.hypothesis.rule, finding.decision
    return {
        "sentence": finding.hypothesis.sentence,
        "effect": finding.hypothesis.effect.text,
        "rule": {"kind": type(rule).__name__.lower(), "border": next(iter(vars(rule).values()))},
        "effects": [None if math.isnan(value) else value for value in finding.effects],
        "mean": decision and decision.mean,
        "interval": decision and [end if math.isfinite(end) else None for end in (decision.low, decision.high)],
        "p": decision and decision.p,
        "corrected": decision and finding.corrected,
        "verdict": finding.verdict,
        "context": list(finding.unmatched),
    }


def read_results(folder: Path) -> list[Results]:
    """The results of all studies whose records are in a folder. Raises `StoreError` for a file that is not a record."""
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
            raise StoreError(f"{file} is not a study record: {type(error).__name__} {error}.") from error
        found.append(Results(study.limited_to(preset), preset, tuple(runs), tuple(sweep)))
    return found


def write_summary(every: Sequence[Results], folder: Path, site: str = "") -> Path:
    """Write the page of all studies and return its path. `site` is the page that its title links to, if any."""
    preset = every[0].preset
    page = {
        "site": site,
        "detail": "Common claims about Vision Transformers and convolutional networks, tested with small models. Each "
        "result holds for the images, the size of model and the training that it names.",
        "facts": {
            "claims": f"{len(every)} of {len(studies())}",
            "runs": f"{sum(len(results.runs) + len(results.sweep) for results in every):,}",
            "preset": preset,
            "processor time": duration(sum(processor_seconds(results) for results in every)),
        },
        "rows": [(results, finding_row(results.findings[results.study.deciding])) for results in every],
        "repeat": f"vitral study run all --preset {preset}",
    }
    path = folder / "index.html"
    write_file(path, render("studies.html", page=page))
    return path


def verdict_label(results: Results) -> str:
    return "smoke" if results.preset == "smoke" else results.verdict


def processor_seconds(results: Results) -> float:
    return sum(run["seconds"] for run in (*results.sweep, *results.runs))


def page_content(results: Results) -> dict[str, Any]:
    """What the template of a study's page shows besides the study itself."""
    study, budget = results.study, results.study.budgets[results.preset]
    origin = newest([*results.sweep, *results.runs])
    # Arms may share a training, which is then counted once.
    trainings = {
        json.dumps(run["training"], sort_keys=True): run["training"]["samples"]
        for run in (*results.sweep, *results.runs)
        if "training" in run
    }
    return {
        "headline": results.headline,
        "details": results.details,
        "scope": scope_text(results),
        "facts": {
            "preset": results.preset,
            "seeds": str(len(results.seeds)),
            "trainings": f"{sum(1 for samples in trainings.values() if samples):,}",
            "samples in total": f"{sum(trainings.values()):,}",
            "processor time": duration(processor_seconds(results)),
        },
        "pictures": [*(picture(*draw(results)) for draw in study.figures), *effects_pictures(results)],
        "findings": [finding_row(finding) for finding in results.findings],
        "method": method_text(results, budget.samples, budget.rates),
        "controls": controls_text(results),
        "arms": [arm_row(results, arm) for arm in study.arms],
        "unfinished": [
            f"{run['arm']}, {run['condition']}, seed {run['seed']}: {run['status']}. {run.get('why', '')}"
            for run in results.unfinished
        ],
        "repeat": f"vitral study run {study.name} --preset {results.preset}",
        "origin": {**origin.get("machine", {}), **origin.get("versions", {}), "time": origin.get("time", "")},
    }


def duration(seconds: float) -> str:
    """A time in hours, minutes or seconds, whichever is the largest unit that it has at least two of.

    >>> duration(90), duration(600), duration(20_000)
    ('90 s', '10 min', '5.6 h')
    """
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}" if seconds < 10 * length else f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def picture(figure: Figure, caption: str) -> Picture:
    return Picture(png(figure), caption, caption)


def effects_pictures(results: Results) -> list[Picture]:
    """One picture of all effects; none if no hypothesis could be decided."""
    rows = [
        (
            finding.hypothesis.sentence,
            Row("", np.asarray(finding.effects), (decision.mean, decision.low, decision.high)),
            finding.hypothesis.rule.borders,
        )
        for finding in results.findings
        if (decision := finding.decision) is not None
    ]
    caption = (
        "The effect of each hypothesis. Grey dots are seeds, the bar is the 95 % interval of their mean, dashed lines "
        "are the limits of the rule."
    )
    return [picture(findings_figure(rows), caption)] if rows else []


def finding_row(finding: Finding) -> dict[str, Any]:
    decision = finding.decision
    return {
        "hypothesis": finding.hypothesis.sentence,
        "formula": finding.hypothesis.effect.text,
        "rule": finding.hypothesis.rule.text,
        "effect": f"{number(decision.mean)} ({number(decision.low)} to {number(decision.high)})" if decision else "",
        "p": f"{finding.corrected:.2g}" if decision and decision.p else "",
        "verdict": finding.verdict,
        "context": f"context: {list_names(finding.unmatched)} not matched in size" if finding.unmatched else "",
    }


def number(value: float) -> str:
    """A number with three significant digits; zero if it is only rounding."""
    return f"{0.0 if abs(value) < ROUNDING else value:.3g}"


def arm_row(results: Results, arm: Arm) -> dict[str, str]:
    runs = [run for run in results.runs if run["arm"] == arm.name]
    size = next((run["size"] for run in runs if "size" in run), None)
    trainings = [run["training"] for run in runs if "training" in run]
    matched = [MATCHED[quantity][0] for quantity in results.study.matched]
    rates = sorted({training["recipe"]["lr"] for training in trainings if training["samples"]})
    return {
        "name": arm.name,
        "parameters": f"{size['parameters']:,}" if size else "",
        "macs": f"{size['macs'] / 1e6:.1f} M" if size else "",
        "rate": ", ".join(f"{rate:g}" for rate in rates) or "untrained",
        "runs": str(len(runs)),
        "matched": f"no: {arm.unmatched}" if arm.unmatched else " and ".join(matched),
    }


def scope_text(results: Results) -> str:
    """What the verdict applies to. Models of this size refute nothing about large ones."""
    sizes = [run["size"]["parameters"] for run in results.runs if "size" in run]
    samples = results.study.budgets[results.preset].samples
    if not samples:
        return "Nothing was trained. The verdict applies to this machine and these sizes."
    least, most = min(sizes, default=0), max(sizes, default=0)
    models = f"models of {least:,} to {most:,} parameters" if least < most else f"models of {most:,} parameters"
    return (
        f"Measured on {results.data_names} with {models}, trained on {samples:,} samples each. The verdict does not "
        "extend to larger models or to other images."
    )


def controls_text(results: Results) -> str:
    """What the controls reach: a bag of patches, which cannot combine patches, and a model of shuffled labels."""
    required = results.study.reference
    if required is None:
        return ""
    sentences = []
    for condition in results.conditions:
        bag, reference = (results.values("accuracy", arm, condition) for arm in (BAG.name, required.arm))
        if len(bag) and len(reference):
            lead = float(reference.mean() - bag.mean())
            meaning = (
                f"combining patches is worth {100 * lead:.0f} points"
                if lead > SAME_ACCURACY
                else "these images can be classified without combining patches, so accuracy on them does not show "
                "whether a model combines them"
            )
            sentences.append(
                f"{condition}: a bag of patches, which cannot combine patches, reaches {bag.mean():.1%} accuracy, and "
                f"{required.arm} reaches {reference.mean():.1%}; {meaning}."
            )
        if len(shuffled := results.values("accuracy", SHUFFLED.name, condition)):
            sentences.append(f"{condition}, labels shuffled: {shuffled.mean():.1%}, since there is nothing to learn.")
    return " ".join(sentences)


def method_text(results: Results, samples: int, rates: tuple[float, ...]) -> str:
    first = f"Every arm runs on every condition with {len(results.seeds)} seeds"
    if samples:
        first += (
            ". A seed determines the images, their order and the initial weights, the same for all arms; each training "
            f"takes {samples:,} samples"
        )
    sentences = [f"{first}."]
    if len(rates) > 1:
        sentences += sweep_sentences(results, rates)
    trained_on = [condition.name for condition in results.study.conditions if condition.samples]
    sentences += sample_sentences([run for run in results.runs if run["condition"] in trained_on])
    if results.reference_accuracy:
        reached, minimum = results.reference_accuracy
        sentences.append(
            f"The reference arm reaches {reached:.1%} on validation images; at least {minimum:.0%} was required."
        )
    return " ".join(sentences)


def sample_sentences(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """On how many images of how many classes accuracy or mean IoU is measured, for each split that is not used whole.

    A split that lacks classes is named too. Records from before these numbers were kept give no sentence.
    """
    sentences = []
    for split, images in (("train", "training images"), ("val", "validation images"), ("test", "test images")):
        records = [run["record"] for run in runs if split in run.get("record", {}).get("sample", {})]
        samples = [{"n": record["n"][split], **record["sample"][split]} for record in records]
        if all(one["n"] == one["of"] and not one["missing"] for one in samples):
            continue
        n, total, present = (span([one[key] for one in samples]) for key in ("n", "of", "classes"))
        missing = sorted({name for one in samples for name in one["missing"]})
        count = samples[0]["classes"] + len(samples[0]["missing"])
        absent = f"; some runs have none of {list_names(missing)}" if missing else ""
        whole = all(one["n"] == one["of"] for one in samples)
        which = f"all {n}" if whole else f"{n} of {total}, chosen at random"
        measure = "Mean IoU" if any(f"{split}_mIoU" in record for record in records) else "Accuracy"
        sentences.append(f"{measure} on {images} is measured on {which}, of {present} of {count:,} classes{absent}.")
    return sentences


def span(values: Sequence[int]) -> str:
    """One number, or the least and the largest.

    >>> span([2000, 2000]), span([256, 1024])
    ('2,000', '256 to 1,024')
    """
    return " to ".join(f"{value:,}" for value in sorted({min(values), max(values)}))


def sweep_sentences(results: Results, rates: tuple[float, ...]) -> list[str]:
    """How learning rates were chosen, and which arms chose one at an end of the sweep.

    For these arms a better rate may lie outside.
    """
    trained = [run for run in results.runs if run.get("training", {}).get("samples")]
    base = {run["arm"]: f"{run['training']['recipe']['lr'] / run['rate']:g}" for run in trained}
    usual = Counter(base.values()).most_common(1)[0][0] if base else ""
    others = "".join(f"; {arm} {rate}" for arm, rate in base.items() if rate != usual)
    multiples = ", ".join(f"{rate:g}" for rate in rates)
    sentences = [
        f"Each arm's learning rate is its base rate ({usual}{others}) times {multiples}, whichever gives the best "
        "validation accuracy; among equals, the one nearest to the base rate."
    ]
    for end, rate, beyond in (("highest", max(rates), "higher"), ("lowest", min(rates), "lower")):
        arms = [arm for arm in base if any(run["rate"] == rate for run in trained if run["arm"] == arm)]
        if arms:
            which = "every arm" if len(arms) == len(base) else "; ".join(arms)
            sentences.append(f"The {end} rate was chosen for {which}; {beyond} ones were not tried.")
    return sentences
