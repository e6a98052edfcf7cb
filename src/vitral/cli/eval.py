"""Evaluate a trained model on a split of its data, class by class or number by number."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option
from vitral.base.console import print_result
from vitral.cli._options import Code, Json, Model, WantedAccuracy, arguments
from vitral.data import OnBadImage

LISTED = 10  # labels to look at


@dataclass(frozen=True)
class Options:
    model: Model
    data: Annotated[
        str | None,
        Option("Data to evaluate on, with the same class names; by default the data that the model was trained on."),
    ] = None
    split: Annotated[Literal["val", "test"], Option("Split to evaluate on.")] = "test"
    on_bad_image: OnBadImage = "fail"
    at_least: WantedAccuracy = None
    csv: Annotated[
        Path | None,
        Option("New file for the confusion matrix: one row per true class, one column per predicted class."),
    ] = None
    code: Code = None
    json: Json = False


def run(options: Options) -> dict[str, Any]:
    from vitral.base.likely_mislabels import LOOK_AT
    from vitral.tasks.evaluate import evaluate

    found = evaluate(**arguments(options), progress=True)
    print_result(f"{found.data}, {found.split}: {found.summary}, n = {found.n:,}")
    print_result(f"  {found.figures.baseline(found.classes)}")
    for line in found.figures.lines(found.classes):
        print_result(f"  {line}")
    for remark in found.remarks:
        print_result(f"  {remark}")
    if found.answering:
        print_result(f"  {found.answering.chosen.text()}")
        print_result(f"  {found.answering.text()}")
    if found.mislabels:
        print_result(f"  Labels to look at. {LOOK_AT}")
    for one in found.mislabels[:LISTED]:
        print_result(
            f"    {one['image']}: labelled {one['label']}; {one['suggested']} has a probability of "
            f"{one['suggested_probability']:.0%}"
        )
    if len(found.mislabels) > LISTED:
        print_result(f"    ... and {len(found.mislabels) - LISTED:,} more, which --json lists")
    return found.to_json()
