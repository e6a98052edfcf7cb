"""See which patches a model looks at in your images, how far to trust that, and how methods compare on a data set.

With images: a PNG a method and image, each map tested against random orders, a page of all, and an .npz with the
numbers. With --data and --score: a table of methods, controls and metrics with intervals.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option, check
from vitral.base.errors import ConfigError
from vitral.base.lookup import check_name, names


@dataclass(frozen=True)
class Options:
    model: Annotated[
        str,
        Option(
            "A run folder, a checkpoint in it, a published checkpoint, timm:NAME, a Hugging Face folder, or "
            "file.py:Name.",
            positional=True,
        ),
    ]
    images: Annotated[tuple[Path, ...], Option("Image files, or folders of them.", positional=True)] = ()
    method: Annotated[
        tuple[str, ...],
        Option(
            f"How to explain; of {', '.join(names('explain.methods'))}. By default attention, and with --score all."
        ),
    ] = ()
    layer: Annotated[
        tuple[int, ...],
        Option("Of attention: blocks to show, counted from 0, or from the end, -1 being the last; by default all."),
    ] = ()
    head: Annotated[
        tuple[int, ...],
        Option("Of attention: heads to show, counted from 0, or from the end, -1 being the last; by default all."),
    ] = ()
    query: Annotated[
        str | None,
        Option(
            "Of attention: who reads. A token's number, 0 being CLS, a patch as ROW,COLUMN, or grid for patches all "
            "over the image; by default what the answer is read from."
        ),
    ] = None
    target: Annotated[
        str | None, Option("The class to explain, by name or number; by default the model's own answer.")
    ] = None
    data: Annotated[str | None, Option("With --score: the data to score on, named as for training.")] = None
    score: Annotated[bool, Option("Score the methods and their controls on --data instead of explaining images.")] = (
        False
    )
    metric: Annotated[
        tuple[str, ...],
        Option(
            f"With --score: by what; of {', '.join(names('explain.metrics'))}. By default all that the data allows."
        ),
    ] = ()
    n: Annotated[int, Option("With --score: so many images.", low=2, high=1_000_000)] = 200
    out: Annotated[Path, Option("The folder to write to.")] = Path("explained")
    on_bad_image: Annotated[Literal["fail", "skip"], Option("What to do about a file that cannot be read.")] = "fail"
    code: Annotated[str | None, Option("file.py:Name, if the model is your own and its file has moved or changed.")] = (
        None
    )
    json: Annotated[bool, Option("Print the result as JSON, the last line on standard output.")] = False

    def __post_init__(self) -> None:
        check(self)
        for method in self.method:
            check_name(method, names("explain.methods"), "method")
        for metric in self.metric:
            check_name(metric, names("explain.metrics"), "metric")
        if self.score and not self.data:
            raise ConfigError("--score needs --data: shapes, cued, digits or a folder of class folders.")
        if self.data and not self.score:
            raise ConfigError("--data is what --score is done on: add --score, or name images.")
        if self.score and self.images:
            raise ConfigError("Name images to explain, or --data with --score; not both at once.")
        if self.score and (self.layer or self.head or self.query or self.target):
            raise ConfigError("--layer, --head, --query and --target are for images: leave them out of --score.")
        if self.method and (self.layer or self.head or self.query) and "attention" not in self.method:
            raise ConfigError("--layer, --head and --query choose among attention maps; add --method attention.")


def run(options: Options) -> dict[str, Any]:
    from vitral.cli._explained import explained
    from vitral.cli._open import opened
    from vitral.cli._scored import scored

    model = opened(options.model, options.code)
    return scored(model, options) if options.score else explained(model, options)
