"""Image files with their targets, found in a folder and read into memory."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from vitral.base.errors import DataError, ImageError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import Task
from vitral.data.class_names import list_names, missing_classes
from vitral.data.dataset import Dataset, Example, Split
from vitral.data.division import HELD_OUT
from vitral.data.image import SUFFIXES, first_page_only
from vitral.data.read_pixels import read_pixels
from vitral.data.reading import Reading
from vitral.data.split_table import SplitName
from vitral.data.table_file import Report

T = TypeVar("T")
LABEL_TYPES: dict[Task, type] = {"one class": np.int64, "several classes": np.bool_, "numbers": np.float64}


def is_image(path: Path) -> bool:
    """Whether a file has the name of an image."""
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def images_in(folder: Path) -> list[Path]:
    """The images in a folder and its sub-folders, sorted, except hidden ones."""
    return in_order_of_names(path for path in folder.rglob("*") if is_image(path) and not is_hidden(path, folder))


def in_order_of_names(paths: Iterable[Path]) -> list[Path]:
    """Sorted by the names of folders and file, the same on every system: Windows would sort `b` before `C`."""
    return sorted(paths, key=lambda path: path.parts)


def is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


class BadImages(ImageError):
    """Files that cannot be read, with a sentence for each."""

    def __init__(self, errors: Sequence[str]):
        self.errors = tuple(errors)
        several = f"{len(errors)} images cannot be read:\n  " + "\n  ".join(errors) + "\n"
        found = several if len(errors) > 1 else f"{errors[0]} "
        super().__init__(f"{found}Use --on-bad-image skip to leave such files out.")


def open_splits(data: Dataset) -> Dataset:
    """Read every split, so that all that cannot be read is known before anything is trained. Raises `BadImages`."""
    errors: list[str] = []
    for split in data.splits:
        try:
            data.split(split)  # is kept, so nothing is read twice
        except BadImages as bad:
            errors += bad.errors
    if errors:
        raise BadImages(errors)
    return data


def report_missing_classes(
    examples: Mapping[SplitName, Sequence[Example]], classes: Sequence[str], report: Report
) -> None:
    """Report the classes of which there are no validation or no test images."""
    for split in (name for name in HELD_OUT if name in examples):
        labels = np.array([example.target for example in examples[split]])
        if absent := missing_classes(labels, classes):
            report(f"No {split} images of {list_names(absent)}: {split} figures do not cover these classes.")


def check_errors(
    errors: Sequence[ImageError | None], files: Sequence[Path], split: SplitName, reading: Reading
) -> None:
    """Report the files of a split that could not be read.

    Raises `BadImages` for them unless they are to be skipped, `DataError` if nothing could be read.
    """
    bad = [(file, error) for file, error in zip(files, errors) if error]
    if bad and reading.on_bad_image == "fail":
        raise BadImages([str(error) for _, error in bad])
    if bad:
        some = ", ".join(str(file) for file, _ in bad)
        reading.report(f"{len(bad)} of {len(files)} {split} images could not be read and were left out: {some}.")
    if note := first_page_only(files):
        reading.report(f"{split}: {note}")
    if len(bad) == len(files):
        raise DataError(f"None of the {len(files)} {split} images could be read. Replace the files.")


def file_of(example: Example) -> Path:
    """The file of an image that is not in memory."""
    assert isinstance(example.image, Path)
    return example.image


def of_split(parts: Mapping[SplitName, Sequence[T]], split: SplitName, root: Path) -> Sequence[T]:
    """What a split has. Raises `DataError` for one that is not there."""
    if not parts.get(split):
        there = " and ".join(name for name, own in parts.items() if own)
        raise DataError(f"{root} has no {split} images, but {there}. Specify which to use: --split.")
    return parts[split]


def load_examples(
    examples: Sequence[Example],
    classes: tuple[str, ...],
    task: Task,
    preprocessing: Preprocessing,
    split: SplitName,
    reading: Reading,
) -> Split:
    """Read every image of a split, in random order.

    Raises `BadImages` for files that cannot be read, unless they are to be skipped.
    """
    files = [file_of(example) for example in examples]
    found = read_pixels(files, [example.content for example in examples], preprocessing, split, reading)
    check_errors(found.errors, files, split, reading)
    labels: np.ndarray = np.array([examples[index].target for index in found.kept], dtype=LABEL_TYPES[task])
    # A class without training images would silently become one that is never answered.
    if (
        split == "train"
        and task == "one class"
        and (lost := [name for label, name in enumerate(classes) if label not in labels])
    ):
        raise DataError(
            f"None of the training images of {', '.join(map(repr, lost))} could be read. Replace the files."
        )
    names = tuple(str(files[index]) for index in found.kept)
    return Split(found.pixels, labels, files=names, source_index=found.source_index)
