"""Segment an image of any size, tile by tile: `predict_tiles(model, "scan.tif")` writes a TIFF of classes.

Tiles overlap and are blended; for a model that sees no farther than the tiles' context, the result is that of the whole
image. Only one row of tiles is in memory. A run that was stopped or killed is continued by the same call, to the same
bytes.

Axes:  b tiles   c channels   k classes   y x pixels
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.files import sha256
from vitral.base.mask_values import MOST_CLASSES
from vitral.base.modes import evaluating
from vitral.data.large.image import LargeImage, open_large_image
from vitral.data.large.tiff import import_tifffile
from vitral.data.large.tiles import read_rows
from vitral.data.preprocess import normalise
from vitral.store.classifier import Classifier
from vitral.tasks.inputs import model_name, open_model
from vitral.tasks.progress import Progress, progress_for
from vitral.tasks.tiling.blend import RowBlender
from vitral.tasks.tiling.class_map import read_description, write_class_map
from vitral.tasks.tiling.journal import Journal, differences, folder_of, remove_folder
from vitral.tasks.tiling.plan import TilePlan, plan_tiles
from vitral.tasks.tiling.reach import logits_per_pixel, measure_reach
from vitral.tasks.tiling.seams import Disagreement

PIXELS_AT_ONCE = 512 * 512  # of small tiles that one forward pass takes
PROMISED = 1e-3  # total variation between tiles that promise the logits of the whole image; rounding gives 1e-5
SAMPLES, TILES_PER_SAMPLE = (4, 16), 8  # pairs of tiles compared well inside: bounds, and how many tiles per pair


@dataclass(frozen=True)
class TiledPrediction:
    """The classes of an image's pixels, in the file `out`: a TIFF of one index per pixel, named by `classes`.

    `shares` has each class's share of the pixels. `tile` (height, width), `context` and `tiles`, their number, say how
    it was made. `seams` is how much overlapping tiles disagree at their seams; `inside` the same well inside both, None
    where tiles promise the whole image's logits (`is_exact`) or nothing overlaps.
    """

    image: Path
    out: Path
    classes: tuple[str, ...]
    height: int
    width: int
    tile: tuple[int, int]
    context: int
    tiles: int
    is_exact: bool
    shares: tuple[float, ...]
    seams: Disagreement
    inside: Disagreement | None
    notes: tuple[str, ...]

    def read(self) -> UInt8[np.ndarray, "y x"]:
        """The class index of each pixel, all in memory."""
        found: np.ndarray = import_tifffile().imread(self.out)
        return found

    def text(self) -> str:
        """The result in a few lines: the shares of the largest classes, and how tiles agree."""
        order = sorted(range(len(self.classes)), key=lambda index: -self.shares[index])
        largest = ", ".join(f"{self.classes[index]} {self.shares[index]:.1%}" for index in order[:5])
        lines = [f"{self.image}: {largest}"]
        if self.seams.pixels:
            lines.append(f"where tiles meet: {self.seams.text()}")
        if self.inside is not None and self.inside.pixels:
            lines.append(f"well inside two tiles: {self.inside.text()}")
        return "\n".join([*lines, f"classes of {self.height:,} x {self.width:,} pixels: {self.out}"])

    def to_json(self) -> dict[str, Any]:
        return {
            "image": str(self.image),
            "out": str(self.out),
            "size": [self.height, self.width],
            "tile": list(self.tile),
            "context": self.context,
            "tiles": self.tiles,
            "exact": self.is_exact,
            "shares": dict(zip(self.classes, self.shares)),
            "seams": self.seams.to_json(),
            "inside": None if self.inside is None else self.inside.to_json(),
        }


def predict_tiles(
    model: str | Path | nn.Module,
    image: str | Path,
    out: str | Path | None = None,
    *,
    tile: int | None = None,
    context: int | None = None,
    code: str | None = None,
    progress: bool | Progress = False,
) -> TiledPrediction:
    """The class of each pixel of an image that need not fit into memory, by a segmentation model.

    `out` is the TIFF to write; by default the image's name with `.classes.tif`, in the current folder. `tile` is the
    side of the square tiles and `context` the pixels at their inner borders that do not count; by default both follow
    from how far the model sees, which is measured. An unfinished result with the same settings is continued, and a
    finished one returned as it is.

    Raises `UsageError` for a model with another task, or a file in the way with other settings; `ConfigError` for tiles
    that do not fit the model or if the extra `tiles` is missing; `ImageError` for an image that cannot be read.
    """
    progress = progress_for(progress)
    import_tifffile()
    opened = open_model(model, progress, code)
    check_segments(opened, model_name(model))
    image = Path(image)
    out = Path(out) if out is not None else Path(f"{image.stem}.classes.tif")
    source = open_large_image(image, progress.note)
    plan = plan_tiles(source, measure_reach(opened, opened.preprocessing), opened.preprocessing, tile, context)
    for note in plan.notes:
        progress.note(note)
    settings = {
        "image": sha256(image),
        "model": model_hash(opened),
        "size": [source.height, source.width],
        "tile": [plan.rows.tile, plan.columns.tile],
        "context": plan.context,
        "ramp": [plan.rows.ramp, plan.columns.ramp],
        "alignment": plan.alignment,
        "classes": list(opened.classes),
    }
    if out.exists():
        description = check_same_result(out, settings)
        progress.note(f"{out} is finished, with the same settings: nothing is predicted.")
        remove_folder(folder_of(out))
    else:
        description = run_tiles(opened, source, plan, out, settings, progress)
    seams, inside = (
        Disagreement(**found) if found else None for found in (description["seams"], description["inside"])
    )
    progress.close()
    return TiledPrediction(
        image,
        out,
        tuple(opened.classes),
        source.height,
        source.width,
        (plan.rows.tile, plan.columns.tile),
        plan.context,
        plan.count,
        plan.is_exact,
        tuple(description["shares"]),
        seams or Disagreement(),
        inside,
        tuple(progress.notes),
    )


def check_segments(model: Classifier, name: str) -> None:
    """Raise `UsageError` unless the model answers for each pixel, with classes that fit into a byte."""
    if model.record.task != "segmentation":
        raise UsageError(
            f"{name} predicts {model.record.task} for a whole image, and the answers of tiles cannot be joined to one. "
            "Tiles are for segmentation models, which predict a class for each pixel: leave --tile out."
        )
    if not 1 <= len(model.classes) <= MOST_CLASSES:
        raise UsageError(
            f"{name} has {len(model.classes)} classes, but a class map holds 1 to {MOST_CLASSES}: one byte per pixel."
        )


def model_hash(model: Classifier) -> str:
    """A hash of what a model computes: its modules, config, the file of its code, weights and preprocessing."""
    code = getattr(model, "code", {}).get("sha256", "")  # two modules of one look may compute something else
    config = json.dumps(getattr(model, "config", {}), sort_keys=True, default=str)
    digest = hashlib.sha256(f"{model}{model.preprocessing}{config}{code}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def check_same_result(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The description of a finished result. Raises `UsageError` if it is another one, or another file."""
    description = read_description(out)
    if description is None:
        raise UsageError(f"{out} exists and is not a result of --tile: it is not overwritten. Choose another --out.")
    if changed := differences(description["settings"], settings):
        raise UsageError(
            f"{out} is a finished result with other settings: {changed}. It is not overwritten: choose another --out, "
            "or delete it."
        )
    return description


def run_tiles(
    model: Classifier, image: LargeImage, plan: TilePlan, out: Path, settings: dict[str, Any], progress: Progress
) -> dict[str, Any]:
    """Predict every row of tiles that is not done yet, write the TIFF, and return its description."""
    ramp = plan.rows.ramp if plan.rows.seams else 0
    seam = len(model.classes), ramp, plan.columns.padded
    journal = Journal(out, settings, (image.height, image.width), seam)
    if journal.rows_done:
        progress.note(f"Continuing {journal.folder}: {journal.rows_done} of {len(plan.rows)} rows of tiles are done.")
    across = len(plan.columns)
    progress.count("tiles", journal.rows_done * across, plan.count)
    with evaluating(model), torch.inference_mode():
        if "inside" not in journal.found:
            inside = None if plan.is_exact or plan.count == 1 else compare_inside(model, image, plan)
            journal.write(0, {"seams": Disagreement().to_json(), "inside": inside and inside.to_json()})
        try:
            for row in range(journal.rows_done, len(plan.rows)):
                seams = Disagreement(**journal.found["seams"])
                above, below = journal.seams[row % 2], journal.seams[(row + 1) % 2]
                blender = RowBlender(plan, row, above, below, journal.classes, seams)
                for done, logits in enumerate(logits_of_row(model, image, plan, row), 1):
                    blender.add(logits)
                    del logits  # or it would be held while the next is computed
                    progress.count("tiles", row * across + done, plan.count)
                journal.write(row + 1, journal.found | {"seams": seams.to_json()})
        except KeyboardInterrupt:
            progress.close()
            progress.note(
                f"Stopped with {journal.rows_done} of {len(plan.rows)} rows of tiles done. To continue, repeat the "
                "command."
            )
            raise
    seams = Disagreement(**journal.found["seams"])
    if plan.is_exact and seams.largest > PROMISED:
        progress.note(
            f"warning: overlapping tiles differ by up to {seams.largest:.2g} in a probability, although the model was "
            f"measured to see no farther than {plan.context} pixels: a larger --context gives the whole image's answer."
        )
    description = {"classes": list(model.classes), **journal.found, "shares": shares(journal.classes, model.classes)}
    description["settings"] = settings
    write_class_map(out, journal.classes, model.classes, description)
    journal.remove()
    return description


def logits_of_row(
    model: Classifier, image: LargeImage, plan: TilePlan, row: int
) -> Iterator[Float[Tensor, "k tile_y tile_x"]]:
    """The logits of each tile in a row, from left to right; several small tiles go through the model at once."""
    rows, columns = plan.rows, plan.columns
    band = read_rows(image, rows.origins[row], rows.tile, columns.padded)
    at_once = max(1, PIXELS_AT_ONCE // (rows.tile * columns.tile))
    for first in range(0, len(columns), at_once):
        origins = columns.origins[first : first + at_once]
        yield from logits_of(model, [band[:, left : left + columns.tile] for left in origins])


def logits_of(model: Classifier, pixels: list[UInt8[np.ndarray, "y x 3"]]) -> Float[Tensor, "b k y x"]:
    """The logits of windows of one size, in float32 on the processor."""
    images = torch.from_numpy(np.stack(pixels)).to(next(model.parameters()).device)
    found = logits_per_pixel(model, normalise(images, model.preprocessing)).float().cpu().contiguous()
    if found.shape[1] != len(model.classes):
        raise UsageError(
            f"{type(model).__name__} returns {found.shape[1]} logits per pixel, but {len(model.classes)} classes are "
            "named in its record."
        )
    return found


def compare_inside(model: Classifier, image: LargeImage, plan: TilePlan) -> Disagreement:
    """How much tiles disagree in the middle of what they share, if one is moved by half a step: a sample.

    Seams can hardly do better than this with a model whose answer depends on the tile.
    """
    found, rows, columns = Disagreement(), plan.rows, plan.columns
    shift = tuple(
        (axis.origins[1] - axis.origins[0]) // 2 // plan.alignment * plan.alignment if axis.seams else 0
        for axis in (rows, columns)
    )
    wanted = min(max(SAMPLES[0], plan.count // TILES_PER_SAMPLE), SAMPLES[1])
    places = [divmod((2 * number + 1) * plan.count // (2 * wanted), len(columns)) for number in range(wanted)]
    last = max(0, len(rows) - 2), max(0, len(columns) - 2)  # of which there is a next one
    for row, column in dict.fromkeys((min(row, last[0]), min(column, last[1])) for row, column in places):
        top, left = rows.origins[row], columns.origins[column]
        band = read_rows(image, top, rows.tile + shift[0], columns.padded)[:, left : left + columns.tile + shift[1]]
        one = logits_of(model, [band[: rows.tile, : columns.tile]])[0]
        other = logits_of(model, [band[shift[0] :, shift[1] :]])[0]
        height, width = rows.tile - shift[0], columns.tile - shift[1]  # what both have; its middle is compared
        y, x = (slice(side // 4, side - side // 4) for side in (height, width))
        found.add(one[:, shift[0] :, shift[1] :][:, y, x], other[:, :height, :width][:, y, x])
    return found


def shares(indices: UInt8[np.ndarray, "y x"], classes: tuple[str, ...]) -> list[float]:
    """Each class's share of the pixels, counted some rows at a time."""
    counts = np.zeros(256, np.int64)
    for top in range(0, len(indices), 256):
        counts += np.bincount(indices[top : top + 256].ravel(), minlength=256)
    return [int(count) / indices.size for count in counts[: len(classes)]]
