"""Image files with their targets, found in a folder and read into memory."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vitral.base.errors import DataError, ImageError, UsageError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import Task
from vitral.data.class_names import list_names, missing_classes
from vitral.data.dataset import Example, Split, SplitName
from vitral.data.image import SUFFIXES, load_image
from vitral.data.preprocess import crop_and_resize
from vitral.data.table_file import Report

FOLDER_NAMES: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
# Of the images of each class, where the folder has no such split.
SHARES: dict[SplitName, float] = {"val": 0.15, "test": 0.15}
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


def check_on_bad_image(on_bad_image: str) -> None:
    """Raise `UsageError` unless it is "fail" or "skip": anything else would silently mean one of them."""
    if on_bad_image not in ("fail", "skip"):
        raise UsageError(f"on_bad_image={on_bad_image!r} is not supported. Choices: fail, skip.")


def report_missing_classes(
    examples: Mapping[SplitName, Sequence[Example]], classes: Sequence[str], report: Report
) -> None:
    """Report the classes of which there are no validation or no test images."""
    for split in SHARES:
        labels = np.array([example.target for example in examples[split]])
        if absent := missing_classes(labels, classes):
            report(f"No {split} images of {list_names(absent)}: {split} figures do not cover these classes.")


def load_examples(
    examples: Sequence[Example],
    classes: tuple[str, ...],
    task: Task,
    preprocessing: Preprocessing,
    on_bad_image: str,
    split: SplitName,
    report: Report,
) -> Split:
    """Read every image into memory."""

    def load(example: Example) -> np.ndarray | ImageError:
        assert isinstance(example.image, Path)
        try:
            return crop_and_resize(load_image(example.image), preprocessing)
        except ImageError as error:  # returned rather than raised, so that all bad files are counted and listed
            if on_bad_image == "fail":
                raise ImageError(f"{error} Use --on-bad-image skip to leave such files out.") from error
            return error

    # Pillow releases Python's lock while it decodes, so threads use all cores; `map` keeps the order.
    with ThreadPoolExecutor() as pool:
        loaded = list(zip(examples, pool.map(load, examples)))
    good = [(example, image) for example, image in loaded if not isinstance(image, ImageError)]
    if bad := [str(example.image) for example, image in loaded if isinstance(image, ImageError)]:
        report(f"{len(bad)} of {len(loaded)} {split} images could not be read and were left out: {', '.join(bad)}.")
    if not good:
        raise DataError(f"None of the {len(loaded)} {split} images could be read. Replace the files.")
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
