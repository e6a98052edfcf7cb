"""Whether a data set is what a model knows: the same classes, images of the size that it takes."""

import inspect
from collections.abc import Sequence

from vitral.base.errors import DataError
from vitral.data.dataset import Dataset
from vitral.data.named import built_in

MOST = 20  # class names that a message lists


def check_fits(data: Dataset, classes: Sequence[str] | None, size: tuple[int, int]) -> None:
    """Raise `DataError` unless the data has the model's classes, where these have names, and its (height, width)."""
    if classes is not None and tuple(data.classes) != tuple(classes):
        raise DataError(f"{data.name} has the classes {listed(data.classes)}; the model knows {listed(classes)}.")
    if tuple(data.preprocessing.size) != tuple(size):
        (found_height, found_width), (height, width) = data.preprocessing.size, size
        raise DataError(
            f"{data.name} has images of {found_height}x{found_width}; the model takes {height}x{width}."
            + (f" Try {data.name}:size={height}." if height == width and can_be_sized(data.name) else "")
        )


def can_be_sized(name: str) -> bool:
    """Whether a data set is drawn at any size."""
    make = built_in().get(name)
    return make is not None and "size" in inspect.signature(make).parameters


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
