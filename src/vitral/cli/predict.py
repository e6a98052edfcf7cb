"""Predict images: the most likely classes of each with their probabilities, or the numbers that the model predicts.

With --tile: a segmentation model's class for each pixel of one image, which may be larger than memory.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from vitral.base.config import Option
from vitral.base.console import print_result
from vitral.base.errors import ConfigError
from vitral.cli._options import Code, Images, Json, Model, arguments
from vitral.data import OnBadImage


@dataclass(frozen=True)
class Options:
    model: Model
    images: Images
    top: Annotated[int, Option("Number of classes to print per image.", low=1, high=1000)] = 3
    on_bad_image: OnBadImage = "fail"
    tile: Annotated[
        bool, Option("Segment one image of any size in overlapping tiles, and write a TIFF of the class of each pixel.")
    ] = False
    tile_size: Annotated[
        int | None,
        Option("Side of the square tiles of --tile in pixels; by default one that fits the model.", low=1, high=65_536),
    ] = None
    context: Annotated[
        int | None,
        Option(
            "Pixels at the inner borders of each tile that do not count; by default as far as the model sees, which is "
            "measured.",
            low=0,
            high=32_768,
        ),
    ] = None
    out: Annotated[
        Path | None, Option("TIFF that --tile writes; by default the image's name with .classes.tif, in this folder.")
    ] = None
    code: Code = None
    json: Json = False

    def __post_init__(self) -> None:
        if self.tile and (self.top != Options.top or self.on_bad_image != Options.on_bad_image):
            raise ConfigError("--top and --on-bad-image do not apply to --tile: leave them out.")
        if self.tile and len(self.images) != 1:
            raise ConfigError(f"--tile takes one image, not {len(self.images)}: run it once for each.")
        if not self.tile and (self.tile_size is not None or self.context is not None or self.out is not None):
            raise ConfigError("--tile-size, --context and --out are for --tile: add it, or leave them out.")


def run(options: Options) -> dict[str, Any]:
    return segment_in_tiles(options) if options.tile else predict_images(options)


def segment_in_tiles(options: Options) -> dict[str, Any]:
    """Write the classes of one image's pixels; print their shares and the file."""
    from vitral.tasks.tile import predict_tiles

    found = predict_tiles(
        options.model,
        options.images[0],
        options.out,
        tile=options.tile_size,
        context=options.context,
        code=options.code,
        progress=True,
    )
    print_result(found.text())
    return {"task": "segmentation", **found.to_json()}


def predict_images(options: Options) -> dict[str, Any]:
    """Print the prediction for each image."""
    from vitral.tasks.predict import predict

    found = predict(**arguments(options, "top", "tile", "tile_size", "context", "out"), progress=True)
    for one in found:
        print_result(f"{one.image}: {one.text(options.top)}")
    answers = [one.to_json(options.top) for one in found]
    return {"task": found.task, "predictions": answers, **found.training_images}
