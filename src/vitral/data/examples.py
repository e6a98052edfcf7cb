"""Image files with their targets, found in a folder and read into memory."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from vitral.base.errors import DataError, ImageError, UsageError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import Task
from vitral.data.class_names import list_names, missing_classes
from vitral.data.dataset import Dataset, Example, Split
from vitral.data.decode import load_resized
from vitral.data.division import HELD_OUT
from vitral.data.image import SUFFIXES, first_page_only
from vitral.data.split_table import SplitName
from vitral.data.table_file import Report

T = TypeVar("T")
V = TypeVar("V")
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


def check_on_bad_image(on_bad_image: str) -> None:
    """Raise `UsageError` unless it is "fail" or "skip": anything else would silently mean one of them."""
    if on_bad_image not in ("fail", "skip"):
        raise UsageError(f"on_bad_image={on_bad_image!r} is not supported. Choices: fail, skip.")


def report_missing_classes(
    examples: Mapping[SplitName, Sequence[Example]], classes: Sequence[str], report: Report
) -> None:
    """Report the classes of which there are no validation or no test images."""
    for split in (name for name in HELD_OUT if name in examples):
        labels = np.array([example.target for example in examples[split]])
        if absent := missing_classes(labels, classes):
            report(f"No {split} images of {list_names(absent)}: {split} figures do not cover these classes.")


def readable(
    loaded: Sequence[tuple[T, V | ImageError]],
    paths: Sequence[object],
    split: SplitName,
    on_bad_image: str,
    report: Report,
) -> list[tuple[T, V]]:
    """What could be read of a split; the rest is reported by its paths.

    Raises `BadImages` for it unless it is to be skipped, `DataError` if nothing could be read.
    """
    bad = [(path, found) for path, (_, found) in zip(paths, loaded) if isinstance(found, ImageError)]
    if bad and on_bad_image == "fail":
        raise BadImages([str(error) for _, error in bad])
    if bad:
        some = ", ".join(str(path) for path, _ in bad)
        report(f"{len(bad)} of {len(loaded)} {split} images could not be read and were left out: {some}.")
    if note := first_page_only(path for path in paths if isinstance(path, Path)):
        report(f"{split}: {note}")
    if len(bad) == len(loaded):
        raise DataError(f"None of the {len(loaded)} {split} images could be read. Replace the files.")
    return [(own, found) for own, found in loaded if not isinstance(found, ImageError)]


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
    on_bad_image: str,
    split: SplitName,
    report: Report,
) -> Split:
    """Read every image into memory. Raises `BadImages` for files that cannot be read, unless they are to be skipped."""

    def load(example: Example) -> np.ndarray | ImageError:
        try:
            return load_resized(file_of(example), preprocessing, for_training=split == "train")
        except ImageError as error:  # returned rather than raised, so that all bad files are counted and listed
            return error

    # Pillow releases Python's lock while it decodes, so threads use all cores; `map` keeps the order.
    with ThreadPoolExecutor() as pool:
        loaded = list(zip(examples, pool.map(load, examples)))
    good = readable(loaded, [example.image for example in examples], split, on_bad_image, report)
    # A class without training images would silently become one that is never answered.
    labels: np.ndarray = np.array([example.target for example, _ in good], dtype=LABEL_TYPES[task])
    if (
        split == "train"
        and task == "one class"
        and (lost := [name for label, name in enumerate(classes) if label not in labels])
    ):
        raise DataError(
            f"None of the training images of {', '.join(map(repr, lost))} could be read. Replace the files."
        )
    files = tuple(str(example.image) for example, _ in good)
    return Split(np.stack([image for _, image in good]), labels, files=files)
