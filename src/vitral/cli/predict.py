"""Predict images: the likeliest classes with their probabilities, the numbers that the model predicts, or masks.

A segmentation model gives each pixel a class: the shares of pixels are printed, and --out has the masks.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from vitral.base.config import Option
from vitral.base.console import print_result, say
from vitral.base.errors import ConfigError
from vitral.cli._options import Code, Images, Json, Model, arguments
from vitral.data import OnBadImage

if TYPE_CHECKING:
    from vitral.tasks.predict import PredictionResult


@dataclass(frozen=True)
class Options:
    model: Model
    images: Images
    top: Annotated[int, Option("Number of classes to print per image.", low=1, high=1000)] = 3
    out: Annotated[
        Path | None,
        Option("Segmentation: folder for NAME.mask.png (class indices) and NAME.overlay.png of each image."),
    ] = None
    on_bad_image: OnBadImage = "fail"
    code: Code = None
    json: Json = False


def run(options: Options) -> dict[str, Any]:
    from vitral.tasks.predict import predict

    found = predict(**arguments(options, "top", "out"), progress=True)
    answers = [one.to_json(options.top) for one in found]
    files = masks_of(found, options.out)
    for one, answer, written in zip(found, answers, files):
        print_result(f"{one.image}: {one.text(options.top)}")
        if written:
            print_result(f"  {written[0]}\n  {written[1]}")
            answer |= {"mask": str(written[0]), "overlay": str(written[1])}
    return {"task": found.task, "predictions": answers, **found.training_images}


def masks_of(found: "PredictionResult", out: Path | None) -> list[tuple[Path, Path] | None]:
    """Write the masks of each image to the folder `out`; None where there are none to write.

    Raises `ConfigError` for a model that predicts no masks.
    """
    if found.task != "segmentation":
        if out is not None:
            raise ConfigError(
                f"--out is for masks; the task of this model is {found.task!r}, and its answer is printed."
            )
        return [None] * len(found)
    if out is None:
        say("masks: add --out FOLDER to write them")
        return [None] * len(found)
    from vitral.tasks.write_masks import write_masks

    return list(write_masks(found.predictions, out))
