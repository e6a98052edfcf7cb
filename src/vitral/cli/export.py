"""Write a model with its preprocessing as files of ONNX Runtime or OpenVINO, compared before they are kept.

The folder runs without Vitral, and as a MODEL of Vitral's other verbs: vitral predict FOLDER IMAGE.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from vitral.base.config import Option
from vitral.base.console import print_result, say
from vitral.cli._options import Code, Json, Model


@dataclass(frozen=True)
class Options:
    model: Model
    out: Annotated[Path, Option("Folder to write to, which must be new or empty.", positional=True)]
    to: Annotated[Literal["onnx", "openvino"], Option("Runtime that runs the files.")] = "onnx"
    precision: Annotated[
        Literal["fp32", "bf16", "int8"], Option("Numbers that the files compute in: bf16 takes --to openvino.")
    ] = "fp32"
    calibrate: Annotated[
        Path | None, Option("Folder of images that calibrate int8, by default the run's training images.")
    ] = None
    min_agreement: Annotated[
        float, Option("Share of answers, above 0 and up to 1, that int8 must leave the same on other images.")
    ] = 0.99
    images: Annotated[
        Path | None, Option("Folder of images on which files and model are compared, besides generated ones.")
    ] = None
    code: Code = None
    json: Json = False


def run(options: Options) -> dict[str, Any]:
    from vitral.tasks.export import export

    found = export(
        options.model,
        options.out,
        to=options.to,
        precision=options.precision,
        calibrate=options.calibrate,
        min_agreement=options.min_agreement,
        images=options.images,
        code=options.code,
        progress=True,
    )
    for file in found.files:
        print_result(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")
    print_result(f"verified: {found.agreement.text}")
    if found.quantised is not None:
        print_result(found.quantised.text)
    print_result(f"needs: {found.needs}")
    say(f"next:   vitral predict {shlex.quote(str(options.out))} IMAGE")
    return found.to_json()
