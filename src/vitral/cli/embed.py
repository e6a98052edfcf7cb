"""Write the features that a model has before its head, one vector per image.

A model without a head, such as DINOv2, gives what it returns. Beside the file, NAME.files.csv says which row belongs to
which image, and why an image could not be read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from vitral.base.config import Option
from vitral.base.console import print_result
from vitral.cli._options import Code, Images, Json, Model
from vitral.data import OnBadImage


@dataclass(frozen=True)
class Options:
    model: Model
    images: Images
    out: Annotated[
        Path,
        Option("File to write, .npy or .parquet; if a run was interrupted, the same command continues it."),
    ] = Path("features.npy")
    on_bad_image: OnBadImage = "fail"
    code: Code = None
    json: Json = False


def run(options: Options) -> dict[str, Any]:
    from vitral.tasks.embed import embed

    found = embed(
        options.model,
        options.images,
        out=options.out,
        code=options.code,
        on_bad_image=options.on_bad_image,
        progress=True,
    )
    print_result(found.text())
    return found.to_json()
