"""Write a run or a published checkpoint in another library's format.

As timm, transformers, torchvision or Google's code would have saved it. What was assumed of a published checkpoint, and
what of it was left out and why, is printed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option, check
from vitral.base.errors import UsageError


@dataclass(frozen=True)
class Options:
    model: Annotated[
        str, Option("A run folder, or a published checkpoint: a file, or a folder with one.", positional=True)
    ]
    out: Annotated[Path, Option("The folder to write to; it must be new or empty.", positional=True)]
    to: Annotated[Literal["timm", "hf", "torchvision", "npz"], Option("Whose format to write.")] = "timm"
    source: Annotated[str | None, Option("Whose format the checkpoint is in, where its names fit several.")] = None
    weights: Annotated[str | None, Option("Which weights are meant, where a training script saved several.")] = None
    num_heads: Annotated[int | None, Option("Heads of its attention, where nothing says it.", low=1, high=1024)] = None
    trained_at: Annotated[
        tuple[int, ...], Option("Height and width that it was trained at, where nothing says it.")
    ] = ()
    sha256: Annotated[str | None, Option("What the checkpoint's hash must be.")] = None
    json: Annotated[bool, Option("Print the result as JSON, the last line on standard output.")] = False

    def __post_init__(self) -> None:
        check(self)
        if len(self.trained_at) not in (0, 2):
            raise UsageError("--trained-at takes two numbers: height and width.")


def run(options: Options) -> dict[str, Any]:
    from vitral.cli import say
    from vitral.cli._open import opened
    from vitral.weights.convert import write

    given: dict[str, Any] = {name: getattr(options, name) or None for name in ("source", "weights", "sha256")}
    given |= {"num_heads": options.num_heads}
    given |= {"trained_at": (options.trained_at[0], options.trained_at[1])} if options.trained_at else {}
    model = opened(options.model, **{name: value for name, value in given.items() if value is not None})
    files, told = write(model, options.out, options.to)
    for file in files:
        say(f"wrote {file}")
    for line in told:
        say(f"  note: {line}")
    say("read back: the same answers")
    return {"files": [str(file) for file in files], "told": told, "provenance": model.provenance}
