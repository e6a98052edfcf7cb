"""Whether a data set has a model's classes and image size, labels in the model's order, and classes in words."""

import inspect
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from vitral.base.errors import DataError
from vitral.data.dataset import Dataset, Split, SplitName
from vitral.data.spec import built_in_sets

MAX_LISTED = 20  # class names in a message


def match_classes(data: Dataset, classes: Sequence[str] | None, size: tuple[int, int]) -> Dataset:
    """The data with its labels in the model's order of classes; None for a model without class names.

    Raises `DataError` unless the data has the model's classes, and images of its (height, width).
    """
    if classes is not None and sorted(data.classes) != sorted(classes):
        raise DataError(
            f"{data.name} has the classes {list_names(data.classes)}; the model has {list_names(classes)}. Specify "
            "data with the model's classes, or train the model on these: vitral train --init."
        )
    if tuple(data.preprocessing.size) != tuple(size):
        (found_height, found_width), (height, width) = data.preprocessing.size, size
        raise DataError(
            f"{data.name} has images of {found_height}x{found_width}; the model takes {height}x{width}."
            + (f" Try {data.name}:size={height}." if height == width and has_size_option(data.name) else "")
        )
    return data if classes is None or tuple(data.classes) == tuple(classes) else reorder_classes(data, tuple(classes))


def reorder_classes(data: Dataset, classes: tuple[str, ...]) -> Dataset:
    """The same data with its classes in another order, and its labels renumbered."""
    new_label = np.array([classes.index(name) for name in data.classes])

    def read(name: SplitName) -> Split:
        split = data.load(name)
        return replace(split, labels=new_label[split.labels])

    return replace(data, classes=classes, read=read)


def has_size_option(name: str) -> bool:
    """Whether a data set can be drawn at any size."""
    make = built_in_sets().get(name)
    return make is not None and "size" in inspect.signature(make).parameters


def missing_classes(labels: Int[np.ndarray, " n"], classes: Sequence[str]) -> list[str]:
    """The classes of which there is no image."""
    counts = np.bincount(labels, minlength=len(classes))
    return [name for name, count in zip(classes, counts) if not count]


def describe_classes(present: int, missing: Sequence[str]) -> str:
    """How many classes there are images of, and of which there are none.

    >>> describe_classes(5, []), describe_classes(4, ["cat"]), describe_classes(6, [str(label) for label in range(94)])
    ('all 5 classes', '4 of 5 classes (none of cat)', '6 of 100 classes')
    """
    if not missing:
        return f"all {present} classes"
    names = f" (none of {list_names(missing)})" if len(missing) <= MAX_LISTED else ""
    return f"{present:,} of {present + len(missing):,} classes{names}"


def list_names(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_LISTED]) + (f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else "")
