"""Write a run or a published checkpoint in another library's format.

The formats are those of timm, transformers, torchvision and Google's code. The verb prints what it assumed about a
published checkpoint, what it left out, and why.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option
from vitral.base.console import print_result
from vitral.base.errors import UsageError
from vitral.cli._options import Json, Model, arguments


@dataclass(frozen=True)
class Options:
    model: Model
    out: Annotated[Path, Option("Folder to write to, which must be new or empty.", positional=True)]
    to: Annotated[Literal["timm", "hf", "torchvision", "npz"], Option("Format to write.")] = "timm"
    source: Annotated[str | None, Option("Format of the checkpoint, if the names of its tensors match several.")] = None
    weights: Annotated[str | None, Option("Set of weights to read, if a training checkpoint contains several.")] = None
    num_heads: Annotated[
        int | None, Option("Number of attention heads, if the checkpoint does not specify it.", low=1, high=1024)
    ] = None
    trained_at: Annotated[
        tuple[int, ...], Option("Height and width of the training images, if the checkpoint does not specify them.")
    ] = ()
    sha256: Annotated[str | None, Option("SHA-256 that the checkpoint must have.")] = None
    json: Json = False

    def __post_init__(self) -> None:
        if len(self.trained_at) not in (0, 2):
            raise UsageError("--trained-at takes two numbers: height and width.")


def run(options: Options) -> dict[str, Any]:
    from vitral.tasks.inputs import open_model
    from vitral.tasks.progress import ConsoleProgress
    from vitral.weights.convert import write

    settings = arguments(options, "model", "out", "to")
    given = {name: value for name, value in settings.items() if value not in (None, ())}
    model = open_model(options.model, ConsoleProgress(), **given)
    files, lost = write(model, options.out, options.to)
    for file in files:
        print_result(f"wrote {file}")
    for line in lost:
        print_result(f"  note: {line}")
    print_result("verified: read back, the files give the same outputs")
    return {"files": [str(file) for file in files], "told": lost, "provenance": dict(model.provenance)}
