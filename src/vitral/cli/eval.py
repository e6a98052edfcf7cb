"""Evaluate a trained model on a split of its data, class by class."""

from dataclasses import asdict, dataclass
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
    low, high = found.interval
    print_result(
        f"{found.data}, {found.split}: accuracy {found.accuracy:.1%} (95% interval {low:.1%} to {high:.1%}), "
        f"loss {found.loss:.3f}, n = {found.n:,}"
    )
    for label, name in enumerate(found.classes):
        total, right = int(found.confusion[label].sum()), int(found.confusion[label, label])
        wrong = found.confusion[label].copy()
        wrong[label] = 0
        worst = f"   most often confused with {found.classes[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
        print_result(f"  {name:<16} {right:>5} of {total:<5} {right / total if total else 0:6.1%}{worst}")
    return asdict(found)
