"""Judge a trained model on a split of its data, class by class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option, check
from vitral.base.errors import ConfigError, DataError, UsageError
from vitral.cli import say
from vitral.cli._open import data_set, opened
from vitral.data.fits import fitting
from vitral.explain.described import classes_of
from vitral.training.checkpoint import fingerprint
from vitral.training.metrics import interval, predict_split


@dataclass(frozen=True)
class Options:
    model: Annotated[str, Option("A run folder, such as runs/shapes-1, or a published checkpoint.", positional=True)]
    data: Annotated[str | None, Option("Other data than it was trained on; the classes must have the same names.")] = (
        None
    )
    split: Annotated[Literal["val", "test"], Option("Which images to judge by.")] = "test"
    on_bad_image: Annotated[Literal["fail", "skip"], Option("What to do about a file that cannot be read.")] = "fail"
    code: Annotated[str | None, Option("file.py:Name, if the model is your own and its file has moved or changed.")] = (
        None
    )
    json: Annotated[bool, Option("Print the result as JSON, the last line on standard output.")] = False

    def __post_init__(self) -> None:
        check(self)


def run(options: Options) -> dict[str, Any]:
    model = opened(options.model, options.code)
    if not model.classes:
        raise UsageError(
            f"{options.model} has no classes to judge: it gives features. Give it a head: vitral train --init."
        )
    spec = options.data or model.provenance.get("data")
    if spec is None:
        raise ConfigError(f"{options.model} does not say what it was trained on. Name the data: --data.")
    data = data_set(spec, model.preprocessing, model.provenance.get("seed", 0), options.on_bad_image)
    names = classes_of(model)
    data = fitting(data, names, model.preprocessing.size)
    if names is None and len(data.classes) != len(model.classes):
        raise DataError(f"{spec} has {len(data.classes)} classes; the model answers with {len(model.classes)}.")
    if names is None:
        say(f"  assumed: the model answers with the classes of {spec} in their order, since nothing names its own")
    known = model.provenance.get("data_sha256")
    if options.data is None and Path(spec).is_dir() and known and known != fingerprint(data.train, data.val):
        raise DataError(
            f"The images in {spec} are not those it was trained on: some were added, removed or changed since, so the "
            f"{options.split} split may hold some that it has learned. Put them back, or name images that it has not "
            "seen: --data."
        )
    split = data.load(options.split)
    found = predict_split(model, split)
    low, high = interval(found.accuracy, len(split))
    say(
        f"{spec}, {options.split}: accuracy {found.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}), "
        f"loss {found.loss:.3f}, n = {len(split):,}"
    )
    matrix = found.confusion
    for label, name in enumerate(data.classes):
        total, right = int(matrix[label].sum()), int(matrix[label, label])
        others = matrix[label].copy()
        others[label] = 0
        worst = f"   most taken for {data.classes[others.argmax()]} ({others.max()})" if others.any() else ""
        say(f"  {name:<16} {right:>5} of {total:<5} {right / total if total else 0:6.1%}{worst}")
    return {
        "data": spec,
        "split": options.split,
        "accuracy": found.accuracy,
        "interval": [low, high],
        "loss": found.loss,
        "n": len(split),
        "confusion": matrix.tolist(),
    }
