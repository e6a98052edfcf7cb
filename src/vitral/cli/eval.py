"""Evaluate a trained model on a split of its data, class by class or number by number."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from vitral.base.config import Option
from vitral.base.console import print_result
from vitral.cli._options import Code, Json, Model, arguments
from vitral.data import OnBadImage


@dataclass(frozen=True)
class Options:
    model: Model
    data: Annotated[
        str | None,
        Option("Data to evaluate on, with the same class names; by default the data that the model was trained on."),
    ] = None
    split: Annotated[Literal["val", "test"], Option("Split to evaluate on.")] = "test"
    on_bad_image: OnBadImage = "fail"
    code: Code = None
    json: Json = False


def run(options: Options) -> dict[str, Any]:
    from vitral.tasks.evaluate import evaluate

    found = evaluate(**arguments(options), progress=True)
    print_result(f"{found.data}, {found.split}: {found.summary}, n = {found.n:,}")
    print_result(f"  {found.figures.baseline(found.classes)}")
    for line in found.figures.lines(found.classes):
        print_result(f"  {line}")
    return found.to_json()
