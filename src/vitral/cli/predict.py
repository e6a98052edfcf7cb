"""Classify photos: the likeliest classes of each, with their probabilities."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from vitral.base.config import Option, check
from vitral.base.errors import UsageError
from vitral.cli import say
from vitral.cli._images import read_images
from vitral.cli._open import opened
from vitral.store.predict import probabilities


@dataclass(frozen=True)
class Options:
    model: Annotated[str, Option("A run folder, such as runs/shapes-1, or a published checkpoint.", positional=True)]
    images: Annotated[tuple[Path, ...], Option("Image files, or folders of them.", positional=True)]
    top: Annotated[int, Option("How many classes to name for each image.", low=1, high=1000)] = 3
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
        raise UsageError(f"{options.model} has no classes to name: it gives features. To look into it: vitral explain.")
    read = read_images(options.images, model.preprocessing, options.on_bad_image)
    found = probabilities(model, np.stack([image for _, image in read]))
    results = []
    for (path, _), row in zip(read, found):
        best = row.argsort()[::-1][: options.top]
        say(f"{path}: " + ", ".join(f"{model.classes[i]} {row[i]:.1%}" for i in best))
        results.append({"image": str(path), "classes": {model.classes[i]: float(row[i]) for i in best}})
    return {"predictions": results}
