"""Predict images: the likeliest classes with their probabilities, the numbers that the model predicts, or masks.

A segmentation model gives each pixel a class: the shares of pixels are printed, and --out writes the masks. With --tile
it segments one image that may be larger than memory. With --csv the images of a folder are predicted a batch at a time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from vitral.base.config import Option
from vitral.base.console import print_result, say
from vitral.base.errors import ConfigError
from vitral.cli._options import Code, Images, Json, Model, WantedAccuracy, arguments
from vitral.data import OnBadImage

if TYPE_CHECKING:
    from vitral.tasks.predict import PredictionResult


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
        Path | None,
        Option(
            "Segmentation: folder for NAME.mask.png (class indices) and NAME.overlay.png of each image. With "
            "--tile the TIFF to write; by default the image's name with .classes.tif, in this folder."
        ),
    ] = None
    at_least: WantedAccuracy = None
    csv: Annotated[
        Path | None,
        Option("Table to write, with one row per image; if a run was interrupted, the same command continues it."),
    ] = None
    code: Code = None
    json: Json = False

    def __post_init__(self) -> None:
        if self.tile and self.at_least is not None:
            raise ConfigError("--at-least is for models with one class per image: leave it out with --tile.")
        if self.tile and (self.top != Options.top or self.on_bad_image != Options.on_bad_image):
            raise ConfigError("--top and --on-bad-image do not apply to --tile: leave them out.")
        if self.csv and (self.tile or self.out is not None or self.top != Options.top):
            raise ConfigError("--csv writes one row per image: leave out --tile, --out and --top.")
        if self.tile and len(self.images) != 1:
            raise ConfigError(f"--tile takes one image, not {len(self.images)}: run it once for each.")
        if not self.tile and (self.tile_size is not None or self.context is not None):
            raise ConfigError("--tile-size and --context are for --tile: add it, or leave them out.")
        if not self.tile and self.out is not None and self.out.suffix.lower() in (".tif", ".tiff"):
            raise ConfigError(
                f"--out {self.out} is a file that --tile writes: add --tile, or specify a folder for masks."
            )


def run(options: Options) -> dict[str, Any]:
    if options.csv:
        return predict_to_table(options)
    return segment_in_tiles(options) if options.tile else predict_images(options)


def predict_to_table(options: Options) -> dict[str, Any]:
    """Write a row for each image; print how many there are."""
    from vitral.tasks.predict_table import predict_table

    found = predict_table(
        options.model,
        options.images,
        options.csv or "",
        code=options.code,
        on_bad_image=options.on_bad_image,
        at_least=options.at_least,
        progress=True,
    )
    print_result(found.text())
    return found.to_json()


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
    """Print the prediction for each image; write its mask to the folder `--out`."""
    from vitral.tasks.predict import predict

    found = predict(**arguments(options, "top", "tile", "tile_size", "context", "out", "csv"), progress=True)
    answers = [one.to_json(options.top) for one in found]
    files = masks_of(found, options.out)
    for one, answer, written in zip(found, answers, files):
        print_result(f"{one.image}: {one.text(options.top)}")
        if written:
            print_result(f"  {written[0]}\n  {written[1]}")
            answer |= {"mask": str(written[0]), "overlay": str(written[1])}
    chosen = {"calibration": found.calibration.to_json()} if found.calibration else {}
    chosen |= {"at_least": found.abstention.to_json()} if found.abstention else {}
    return {"task": found.task, "predictions": answers, **found.training_images, **chosen}


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
