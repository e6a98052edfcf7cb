"""Which folders hold the training, validation and test images, by their names."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vitral.base.errors import DataError
from vitral.data.split_table import SplitName

# In any case. Hugging Face, Keras, YOLO and others call the splits so.
SPLIT_NAMES: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "eval", "dev"),
    "test": ("test", "testing", "holdout"),
}
SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}


def split_of(name: str) -> SplitName | None:
    """The split that a folder, or a value in a table, names; None for any other name.

    >>> split_of("Valid"), split_of("cats")
    ('val', None)
    """
    return SPLIT_OF.get(name.strip().lower())


def split_folders(root: Path, holds: Callable[[Path], bool] = lambda folder: True) -> dict[SplitName, Path]:
    """The folder of each split in `root`, of those that `holds` accepts; empty if there is no such folder.

    Raises `DataError` for two folders of one split: taking one of them would leave images out.
    """
    found: dict[SplitName, Path] = {}
    children = sorted(child for child in root.iterdir() if child.is_dir()) if root.is_dir() else []
    for child in children:
        split = split_of(child.name)
        if split is None or not holds(child):
            continue
        if split in found:
            raise DataError(
                f"{root} has {found[split].name}/ and {child.name}/, which both name the {split} split. Join them, or "
                "rename one."
            )
        found[split] = child
    return {split: found[split] for split in SPLIT_NAMES if split in found}


def check_no_splits_inside(home: Path, classes: Sequence[str], has_images: Callable[[Path], bool]) -> None:
    """Raise `DataError` for classes with folders of splits inside: their test images would be trained on.

    A class with a sub-folder `train` beside `plane` is one of vehicles.
    """
    for name in classes:
        inner = [child for child in sorted((home / name).iterdir()) if child.is_dir() and has_images(child)]
        if len({split_of(child.name) for child in inner} - {None}) > 1 and all(split_of(one.name) for one in inner):
            raise DataError(
                f"{home / name} has {' and '.join(f'{child.name}/' for child in inner)}: the splits are inside the "
                f"classes. Turn them around: {home.name}/{inner[0].name}/{name}/1.jpg."
            )
