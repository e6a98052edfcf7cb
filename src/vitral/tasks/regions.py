"""Which region of an image is explained of a segmentation model: a rectangle, or the pixels of a class.

Axes:  y x pixels of the model's image   h w pixels of the file
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vitral.base.answers.segmentation import class_map
from vitral.base.errors import UsageError
from vitral.base.mask_values import background_of
from vitral.base.modes import evaluating
from vitral.base.output import find_answer
from vitral.base.preprocessing import Preprocessing
from vitral.data.preprocess import window_of
from vitral.store.classifier import Classifier


class NoSuchPixels(UsageError):
    """No pixel of an image is predicted as the class whose region is to be explained."""


@dataclass(frozen=True)
class Region:
    """The pixels of a region, in the model's size, a sentence on what they are, and the whole predicted mask."""

    pixels: Bool[np.ndarray, "y x"]
    what: str
    predicted: UInt8[np.ndarray, "y x"]


def choose_region(
    model: Classifier,
    path: Path,
    size: tuple[int, int],
    images: Float[Tensor, "1 c y x"],
    rectangle: str | None,
    target: int | None,
) -> Region:
    """The `rectangle` of an image of this (height, width), or the pixels predicted as `target`.

    By default the class with most pixels, background aside; these may be several objects.

    Raises `UsageError` for a rectangle outside the image, and for a class that no pixel is predicted as.
    """
    with evaluating(model), torch.inference_mode():
        predicted = class_map(find_answer(model, model(images), images).tensor)[0]
    if rectangle is not None:
        box = parse_region(rectangle)
        pixels = pixels_of(box, path, size, model.preprocessing)
        what = f"the {box[2]}x{box[3]} pixels of the image from column {box[0]}, row {box[1]}"
        return Region(pixels, what + seen_part(box, size, model.preprocessing), predicted)
    counts = np.bincount(predicted.ravel(), minlength=len(model.classes))
    if target is None:
        others = [index for index in counts.argsort()[::-1] if index != background_of(model.classes)]
        target = int(others[0]) if counts[others[0]] else int(counts.argmax())
    name = model.classes[target]
    if not counts[target]:
        found = ", ".join(model.classes[index] for index in counts.argsort()[::-1] if counts[index])
        raise NoSuchPixels(
            f"No pixel of {path.name} is predicted as {name}, so there is no region of it to explain. Predicted: "
            f"{found}. A rectangle instead: --region X,Y,WIDTH,HEIGHT."
        )
    share = counts[target] / predicted.size
    return Region(predicted == target, f"the {share:.1%} of pixels that are predicted as {name}", predicted)


def parse_region(text: str) -> tuple[int, int, int, int]:
    """`X,Y` is a pixel, `X,Y,WIDTH,HEIGHT` a rectangle, from the top left of the image. Raises `UsageError`.

    >>> parse_region("10,20"), parse_region("10, 20, 5, 6")
    ((10, 20, 1, 1), (10, 20, 5, 6))
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 2:
        numbers += [1, 1]
    if len(numbers) != 4 or min(numbers[:2]) < 0 or min(numbers[2:]) < 1:
        raise UsageError(
            f"--region {text!r} is not X,Y or X,Y,WIDTH,HEIGHT: pixels of the image, from its top left corner."
        )
    return numbers[0], numbers[1], numbers[2], numbers[3]


def pixels_of(
    box: tuple[int, int, int, int], path: Path, size: tuple[int, int], preprocessing: Preprocessing
) -> Bool[np.ndarray, "y x"]:
    """The pixels of the model's image that show a rectangle of the file; at least the one in its middle."""
    height, width = size
    left, top, columns, rows = box
    if left + columns > width or top + rows > height:
        raise UsageError(
            f"--region {left},{top},{columns},{rows} leaves {path.name}, which is {width} pixels wide and {height} "
            "high."
        )
    first_column, first_row, last_column, last_row = window_of(size, preprocessing)
    rows_seen, columns_seen = preprocessing.size
    per_row, per_column = (last_row - first_row) / rows_seen, (last_column - first_column) / columns_seen
    # The centre of each pixel of the model's image, in pixels of the file.
    y = first_row + (np.arange(rows_seen) + 0.5) * per_row
    x = first_column + (np.arange(columns_seen) + 0.5) * per_column
    inside_y, inside_x = (y >= top) & (y < top + rows), (x >= left) & (x < left + columns)
    if not inside_y.any() or not inside_x.any():
        middle_y, middle_x = top + rows / 2, left + columns / 2
        outside = not (first_row <= middle_y < last_row and first_column <= middle_x < last_column)
        if outside:
            raise UsageError(
                f"--region {left},{top},{columns},{rows} lies outside what the model sees of {path.name}: columns "
                f"{first_column:.0f} to {last_column:.0f}, rows {first_row:.0f} to {last_row:.0f}."
            )
        inside_y = nearest(y, middle_y) if not inside_y.any() else inside_y
        inside_x = nearest(x, middle_x) if not inside_x.any() else inside_x
    return inside_y[:, None] & inside_x


def seen_part(box: tuple[int, int, int, int], size: tuple[int, int], preprocessing: Preprocessing) -> str:
    """Which part of a rectangle the model sees; empty if it sees all of it."""
    left, top, columns, rows = box
    first_column, first_row, last_column, last_row = window_of(size, preprocessing)
    seen = max(left, first_column), max(top, first_row), min(left + columns, last_column), min(top + rows, last_row)
    if seen == (left, top, left + columns, top + rows):
        return ""
    return f", of which the model sees columns {seen[0]:.0f} to {seen[2]:.0f} and rows {seen[1]:.0f} to {seen[3]:.0f}"


def nearest(centres: Float[np.ndarray, " y"], place: float) -> Bool[np.ndarray, " y"]:
    return np.arange(len(centres)) == np.abs(centres - place).argmin()
