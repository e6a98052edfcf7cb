"""Write a model with its preprocessing as ONNX files, and check that they give the model's answers.

The folder runs without Vitral, and as a MODEL of Vitral's other verbs: vitral predict FOLDER IMAGE.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from vitral.base.config import Option
from vitral.base.console import print_result, say
from vitral.cli._options import Code, Json, Model


@dataclass(frozen=True)
class Options:
    model: Model
    out: Annotated[Path, Option("Folder to write to, which must be new or empty.", positional=True)]
    images: Annotated[
        Path | None, Option("Folder of images on which files and model are compared, besides generated ones.")
    ] = None
    maps: Annotated[
        bool,
        Option(
            "Also give what the tokens that the answer is read from attend to, in every layer and head, and how far "
            "these rows are off."
        ),
    ] = False
    code: Code = None
    json: Json = False


def run(options: Options) -> dict[str, Any]:
    from vitral.tasks.export import export

    found = export(
        options.model, options.out, images=options.images, maps=options.maps, code=options.code, progress=True
    )
    for file in found.files:
        print_result(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")
    print_result(f"verified: {found.agreement.text}")
    if found.maps is not None:
        print_result(f"verified: {found.maps.text}")
    say(f"next:   vitral predict {shlex.quote(str(options.out))} IMAGE")
    return found.to_json()
