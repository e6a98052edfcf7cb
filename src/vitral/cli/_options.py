"""Options that several verbs share, and how they become the arguments of a task."""

from pathlib import Path
from typing import Annotated, Any

from vitral.base.config import Option

Model = Annotated[
    str,
    Option(
        "Run folder (such as runs/shapes-1) or a training checkpoint in it, published checkpoint (file or folder), "
        "hf:OWNER/NAME, timm:NAME or file.py:Name; options follow after commas, as in deit.pth,source=deit.",
        positional=True,
    ),
]
Images = Annotated[tuple[Path, ...], Option("Image files, or folders of them.", positional=True)]
Code = Annotated[str | None, Option("file.py:Name of your own model, if its file has moved or changed since training.")]
WantedAccuracy = Annotated[
    float | None,
    Option(
        "Accuracy that the answers must reach on the validation images of the model's run (lower end of the 95% "
        "interval); less certain answers become 'unknown'.",
        low=0.01,
        high=0.999,
    ),
]
Json = Annotated[
    bool, Option("Print the result as one line of JSON on standard output; everything else goes to standard error.")
]


def arguments(options: Any, *others: str) -> dict[str, Any]:
    """A verb's options as the arguments of its task, by name; `--json` and `others` are for the verb itself."""
    return {name: value for name, value in vars(options).items() if name not in ("json", *others)}
