"""Evaluate a trained model on a split of its data, class by class."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from vitral.base.config import Option, check
from vitral.base.console import print_result


@dataclass(frozen=True)
class Options:
    model: Annotated[str, Option("Run folder, such as runs/shapes-1, or published checkpoint.", positional=True)]
    data: Annotated[
        str | None, Option("Data with the same class names to use instead of what the model was trained on.")
    ] = None
    split: Annotated[Literal["val", "test"], Option("Split to evaluate on.")] = "test"
    on_bad_image: Annotated[
        Literal["fail", "skip"], Option("fail: stop at an image that cannot be read; skip: leave it out and list it.")
    ] = "fail"
    code: Annotated[
        str | None, Option("file.py:Name of your own model, if its file has moved or changed since training.")
    ] = None
    json: Annotated[bool, Option("Print the result as JSON, as the last line on standard output.")] = False

    def __post_init__(self) -> None:
        check(self)


def run(options: Options) -> dict[str, Any]:
    from vitral.tasks.evaluate import evaluate

    found = evaluate(
        options.model,
        options.data,
        split=options.split,
        code=options.code,
        on_bad_image=options.on_bad_image,
        progress=True,
    )
    low, high = found.interval
    print_result(
        f"{found.data}, {found.split}: accuracy {found.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}), "
        f"loss {found.loss:.3f}, n = {found.n:,}"
    )
    for label, name in enumerate(found.classes):
        total, right = int(found.confusion[label].sum()), int(found.confusion[label, label])
        wrong = found.confusion[label].copy()
        wrong[label] = 0
        worst = f"   most often confused with {found.classes[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
        print_result(f"  {name:<16} {right:>5} of {total:<5} {right / total if total else 0:6.1%}{worst}")
    return {
        "data": found.data,
        "split": found.split,
        "accuracy": found.accuracy,
        "interval": [low, high],
        "loss": found.loss,
        "n": found.n,
        "confusion": found.confusion.tolist(),
    }
