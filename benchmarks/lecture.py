"""`docs/lecture.md`: what the lecture says, sentence by sentence, what Vitral found, and how to see it.

`python -m benchmarks.lecture` fills the template `lecture.md` beside this file with the verdicts and numbers of the
records in `docs/studies/` and `benchmarks/results/`. In the template a line indented by four spaces continues the line
above it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

ROOT = Path(__file__).parents[1]
TEMPLATE, PAGE = Path(__file__).with_suffix(".md"), ROOT / "docs" / "lecture.md"
STUDIES, RESULTS = ROOT / "docs" / "studies", ROOT / "benchmarks" / "results"
RULES = {"beyond": "more than {0:g}", "within": "between -{0:g} and {0:g}", "exactly": "zero to within {0:g}"}
# Measures that are shares of correct answers.
SHARES = {"accuracy", "val_accuracy", "early", "late", "last", "cut_before", "near", "far", "shape_bias", "mIoU"}
BREAK = "  \n  "  # a line break within a list item of Markdown


def page() -> str:
    """The page, from the template and the records."""
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        TEMPLATE.read_text(encoding="utf-8").replace("\n    ", " ")
    )
    text = template.render(
        decided=decided, also=also, headline=headline, demo=demo, lead=lead, on_real_images=on_real_images
    )
    return re.sub(r" *\n  (?=\S)", BREAK, text)


def decided(study: str, first: int, *further: int) -> str:
    """How a study decides a statement: by its hypothesis `first`, then the results of `further` ones, a line each.

    The scope stands first. The study's own sentence follows where `first` is the hypothesis that decides the study.
    """
    record = record_of(study)
    one, *others = (record["hypotheses"][number] for number in (first, *further))
    sums_up = first == record["deciding"]
    sentence = f"{record['sentence']} " if sums_up else ""
    points = in_points([record["sentence"] if sums_up else "", one["sentence"], *(o["sentence"] for o in others)])
    head = f"**{record['scope']}:** {sentence}Hypothesis, {one['verdict']}: {measured(one, points)}"
    return BREAK.join([head, *(result(other, points) for other in others)])


def also(study: str, *numbers: int) -> str:
    """The results of some hypotheses of a study that does not decide the statement, a line each."""
    found = [record_of(study)["hypotheses"][number] for number in numbers]
    points = in_points([one["sentence"] for one in found])
    return BREAK.join(result(one, points) for one in found)


def result(one: Mapping[str, Any], points: bool) -> str:
    context = f" (context, {', '.join(one['context'])} not matched in size)" if one["context"] else ""
    return f"Also {one['verdict']}{context}: {measured(one, points)}"


def measured(one: Mapping[str, Any], points: bool) -> str:
    """A hypothesis and what was measured; in points if the row speaks of them and the effect consists of shares."""
    shares = set(re.findall(r"(\w+)\[", one["effect"])) <= SHARES
    scale, unit = (100, " points") if points and shares else (1, "")
    if one["mean"] is None:
        return f"*{one['sentence']}* Not measured: runs are missing."
    mean, low, high = (f"{round(scale * value, 9) + 0.0:.3g}" for value in (one["mean"], *one["interval"]))
    kind, border = one["rule"]["kind"], scale * one["rule"]["border"]
    rule = "zero" if kind == "exactly" and not border else RULES[kind].format(border) + unit
    return (
        f"*{one['sentence']}* Measured: {mean}{unit} ({low} to {high}, {len(one['effects'])} seeds); "
        f"rule set beforehand: {rule}."
    )


def in_points(sentences: Sequence[str]) -> bool:
    return any("points" in sentence for sentence in sentences)


def record_of(study: str) -> Mapping[str, Any]:
    record: Mapping[str, Any] = json.loads((STUDIES / f"{study}.json").read_text(encoding="utf-8"))
    return record


def headline(study: str) -> str:
    """A study's result as a sentence with its scope."""
    found: str = record_of(study)["headline"]
    return found


def on_real_images(study: str) -> str:
    """The result of a study that was also run on real images, as a sentence with its scope."""
    record = json.loads((RESULTS / "fashion_mnist.json").read_text(encoding="utf-8"))
    return f"**Real images.** {record['studies'][study]['headline']} ([numbers](numbers.md#two-studies-on-real-images))"


def demo() -> str:
    """The accuracy of `vitral train`."""
    runs = json.loads((RESULTS / "demo.json").read_text(encoding="utf-8"))["runs"]
    shares = ", ".join(f"{run['test_accuracy']:.1%}" for run in runs)
    return (
        f"`vitral train` without options classifies {shares} of the test images correctly (seeds 0 to {len(runs) - 1})."
    )


def lead() -> str:
    """How the mean of the patches compares with the class token."""
    one = record_of("pooling")["hypotheses"][0]
    low, high = one["interval"]
    side = "ahead" if low > 0 else "behind" if high < 0 else "neither ahead nor behind"
    return f"{side}, by less than counts as a difference" if one["verdict"] == "supported" else side


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
