"""Classify images: the most likely classes of each, with their probabilities."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option, check
from vitral.base.console import print_result


@dataclass(frozen=True)
class Options:
    model: Annotated[str, Option("Run folder, such as runs/shapes-1, or published checkpoint.", positional=True)]
    images: Annotated[tuple[Path, ...], Option("Image files, or folders of them.", positional=True)]
    top: Annotated[int, Option("Number of classes to print for each image.", low=1, high=1000)] = 3
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
    from vitral.tasks.predict import predict

    found = predict(options.model, options.images, code=options.code, on_bad_image=options.on_bad_image, progress=True)
    for one in found:
        print_result(f"{one.image}: " + ", ".join(f"{name} {chance:.1%}" for name, chance in one.best(options.top)))
    return {"predictions": [one.to_json(options.top) for one in found]}
