"""Whether a data set has a model's classes and image size, and its labels in the model's order of classes."""

import inspect
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vitral.base.errors import DataError
from vitral.base.record import Task
from vitral.data.class_names import list_names
from vitral.data.dataset import Dataset, Split
from vitral.data.spec import built_in_sets
from vitral.data.split_table import SplitName


def match_classes(
    data: Dataset, classes: Sequence[str] | None, size: tuple[int, int], task: Task = "one class"
) -> Dataset:
    """The data with its labels in the model's order of classes; None for a model without class names.

    Raises `DataError` unless the data has the model's task, images of its (height, width), and no class that the model
    lacks; some of the model's classes may have no image.
    """
    if data.task != task:
        option = f"{data.name}:task={task.replace(' ', '_')}"
        raise DataError(
            f"{data.name} has labels for the task {data.task!r}; the model's is {task!r}. Specify data for that task"
            f"{'.' if data.name in built_in_sets() else f', or how to read these labels: --data {option}.'}"
        )
    lacks_some = task != "numbers" and classes is not None and set(data.classes) < set(classes)
    if classes is not None and sorted(data.classes) != sorted(classes) and not lacks_some:
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
    """The same data with its classes, or numbers, in another order, and its labels with them."""
    new_label = np.array([classes.index(name) for name in data.classes])
    every = np.arange(256, dtype=np.uint8)  # the value of an ignored pixel stays
    every[: len(new_label)] = new_label

    def read(name: SplitName) -> Split:
        split = data.load(name)
        if split.labels.ndim == 1:
            return replace(split, labels=new_label[split.labels])
        if split.labels.ndim == 3:
            return replace(split, labels=every[split.labels])
        labels = np.zeros((len(split), len(classes)), split.labels.dtype)
        labels[:, new_label] = split.labels
        return replace(split, labels=labels)

    return replace(data, classes=classes, read=read)


def has_size_option(name: str) -> bool:
    """Whether a data set can be drawn at any size."""
    make = built_in_sets().get(name)
    return make is not None and "size" in inspect.signature(make).parameters
