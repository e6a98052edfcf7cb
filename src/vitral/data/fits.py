"""Whether a data set is what a model knows: the same classes, images of the size that it takes."""

import inspect
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vitral.base.errors import DataError
from vitral.data.dataset import Dataset, Split, SplitName
from vitral.data.named import built_in

MOST = 20  # class names that a message lists


def fitting(data: Dataset, classes: Sequence[str] | None, size: tuple[int, int]) -> Dataset:
    """The data with its classes in the model's order.

    Raises `DataError` unless it has the model's classes, where these have names, and its (height, width).
    """
    if classes is not None and sorted(data.classes) != sorted(classes):
        raise DataError(
            f"{data.name} has the classes {listed(data.classes)}; the model knows {listed(classes)}. Name data of its "
            "classes, or let it learn these: vitral train --init."
        )
    if tuple(data.preprocessing.size) != tuple(size):
        (found_height, found_width), (height, width) = data.preprocessing.size, size
        raise DataError(
            f"{data.name} has images of {found_height}x{found_width}; the model takes {height}x{width}."
            + (f" Try {data.name}:size={height}." if height == width and can_be_sized(data.name) else "")
        )
    return data if classes is None or tuple(data.classes) == tuple(classes) else in_order(data, tuple(classes))


def in_order(data: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The same data, its classes in another order."""
    place = np.array([classes.index(name) for name in data.classes])

    def load(name: SplitName) -> Split:
        split = data.load(name)
        return replace(split, labels=place[split.labels])

    return replace(data, classes=classes, load=load)


def can_be_sized(name: str) -> bool:
    """Whether a data set is drawn at any size."""
    make = built_in().get(name)
    return make is not None and "size" in inspect.signature(make).parameters


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")
