"""A folder of the user's own images, with one sub-folder per class, or with a table of labels (`data.labelled`).

Either `root/CLASS/image.jpg`, which is split here, or `root/train/CLASS/image.jpg` with `val/` and `test/` beside
`train/`; a split that is missing there is taken from the training images.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vitral.base.errors import DataError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import Task
from vitral.data.dataset import Dataset, Example, Split
from vitral.data.division import DEFAULT, HELD_OUT, Division, divide, parts_of, with_contents
from vitral.data.examples import (
    file_of,
    images_in,
    in_order_of_names,
    is_hidden,
    is_image,
    load_examples,
    of_split,
    report_missing_classes,
)
from vitral.data.image import HEIF, OTHER_SUFFIXES
from vitral.data.labelled import find_tables, labelled_folder
from vitral.data.labels import LABEL_COLUMNS, LabelOptions
from vitral.data.mask_folder import check_not_images_and_masks, is_mask_folder, mask_folder
from vitral.data.pixel_cache import PixelCache
from vitral.data.reading import Count, Reading
from vitral.data.split_folders import check_no_splits_inside, split_folders, split_of
from vitral.data.split_table import SPLITS, SplitName
from vitral.data.table_file import Report, read_table


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images as data: its path, a table of labels that was named itself, and how to read the labels."""

    path: Path
    table: Path | None = None
    task: Task | None = None
    label: tuple[str, ...] = ()
    separator: str | None = None


def folder(
    source: Path | ImageFolder,
    preprocessing: Preprocessing,
    division: Division = DEFAULT,
    on_bad_image: Literal["fail", "skip"] = "fail",
    report: Report = lambda sentence: None,
    task: Task | None = None,
    whole: bool = False,
    cache: PixelCache | None = None,
    count: Count = lambda what, done, total: None,
) -> Dataset:
    """Class folders, or images with a table, as a data set of images cropped and resized to `preprocessing.size`.

    `division` says how images are divided whose split no folder or table states. `task` is the model's, if there is
    one: labels that could be read in two ways are read as that. With `whole`, for evaluation, a folder without training
    images is used whole: each split is all of it, and one class is enough. Decoded images are kept in `cache`, if there
    is one, else in memory; `count` gets how many have been read.

    `report` gets a sentence for everything that the user should know: which split was made here, and which files were
    left out. Raises `DataError` if there are no images, only one class, or too few images to hold some out. Loading a
    split raises `ImageError` for a file that cannot be read as an image, unless `on_bad_image` is "skip".
    """
    reading = Reading(on_bad_image, report, count, cache)
    source = source if isinstance(source, ImageFolder) else ImageFolder(source)
    root = source.path
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. Specify a folder of class folders, or a built-in data set.")
    if is_mask_folder(root) and source.task in (None, "segmentation") and not source.table:
        return mask_folder(root, preprocessing, division, reading, whole)
    if "segmentation" in (source.task, task):
        raise DataError(f"{root} has no images/ and masks/ folders, which segmentation needs.")
    tables: dict[SplitName | None, Path] = {None: source.table} if source.table else find_tables(root)
    if tables and (source.table or source.label or source.task or states_labels(root, tables, report)):
        options = LabelOptions(str(source.table or root), source.task or task, source.label, source.separator)
        return labelled_folder(root, tables, options, preprocessing, division, reading, whole)
    if source.label or source.separator or source.task not in (None, "one class"):
        raise DataError(
            f"{root} has no table of labels (labels.csv, metadata.csv or metadata.jsonl), so its labels are the names "
            "of class folders: one class per image. Leave the label options out, or add a table."
        )
    # Everything about names and folders is checked here, before an image is read: reading may take minutes.
    if whole and "train" not in split_folders(root, holds_classes):
        return whole_folder(root, preprocessing, division, reading)
    homes = find_split_folders(root, report)
    home = homes.get("train", root)
    classes = find_classes(home, report)
    if source.task is None:
        check_not_images_and_masks(home, classes)
    # Images that are directly in train/ and val/ would become two classes of these names.
    if not homes and all(map(split_of, classes)):
        raise DataError(
            f"{root} has {' and '.join(f'{name}/' for name in classes)}, but no class folders in them. "
            f"Put each class in a folder of its own: {root.name}/train/cat/1.jpg."
        )
    examples = list_examples(home, classes, report, "train")
    for split in HELD_OUT:
        if held_out := homes.get(split):
            # At least one class, not two: a held-out split may lack classes, but has none that training lacks.
            unknown = sorted(set(find_classes(held_out, report, at_least=1)) - set(classes))
            if unknown:
                raise DataError(
                    f"{held_out} has classes that {home} lacks: {', '.join(unknown)}. Add training images of them, or "
                    "remove them."
                )
            examples += list_examples(held_out, classes, report, split)
    return from_examples(root, classes, examples, preprocessing, division, reading)


def whole_folder(root: Path, preprocessing: Preprocessing, division: Division, reading: Reading) -> Dataset:
    """Images to judge a model on, in class folders: of a folder of splits those that are there, else all for each."""
    homes = split_folders(root, holds_classes)
    split_at: dict[Path, SplitName] = {home: split for split, home in homes.items()}
    each = list(homes.values()) or [root]
    classes = in_class_order({name for home in each for name in find_classes(home, reading.report, at_least=1)})
    examples = [
        one for home in each for one in list_examples(home, classes, reading.report, split_at.get(home, "test"))
    ]
    if not homes:
        reading.report(f"{root} has no split folders: all of its {len(examples):,} images are used.")
    return from_examples(root, classes, examples, preprocessing, division, reading, not homes)


def holds_classes(home: Path) -> bool:
    """Whether a folder has folders of images."""
    return any(images_in(child) for child in folders_in(home))


def from_examples(
    root: Path,
    classes: tuple[str, ...],
    examples: Sequence[Example],
    preprocessing: Preprocessing,
    division: Division,
    reading: Reading,
    whole: bool = False,
) -> Dataset:
    """Class folders whose files are known as a data set, which reads them when a split is loaded.

    With `whole` each split is all of them.
    """
    labels = np.array([example.target for example in examples], dtype=np.int64)
    files, stated = [file_of(example) for example in examples], [example.split for example in examples]
    rows = divide(root, files, stated, labels, division, reading.report)
    examples = with_contents(examples, rows)
    parts = parts_of(examples, rows)
    if whole:
        parts = dict.fromkeys(SPLITS, examples)
    elif "train" in parts:
        report_missing_classes(parts, classes, reading.report)

    def load(split: SplitName) -> Split:
        own = of_split(parts, split, root)
        return load_examples(own, classes, "one class", preprocessing, split, reading)

    known = tuple(row for row in rows if row is not None)
    return Dataset(str(root), classes, preprocessing, load, splits=tuple(parts), rows=known)


def states_labels(root: Path, tables: Mapping[SplitName | None, Path], report: Report) -> bool:
    """Whether labels come from the tables rather than from class folders; reports which, where both are there.

    `metadata.csv` beside class folders often holds captions or sources: it needs a column of labels by name then.
    """
    homes = list(split_folders(root).values()) or [root]
    if all(len([child for child in folders_in(home) if images_in(child)]) < 2 for home in homes):
        return True
    table = next(iter(tables.values()))
    _, columns = read_table(table, lambda sentence: None)
    if has_labels := any(column.lower() in LABEL_COLUMNS for column in columns):
        report(f"Labels are read from {table}, not from the names of folders.")
    else:
        report(
            f"Labels are the names of class folders: {table} has no column called {' or '.join(LABEL_COLUMNS)}. To "
            f"read them from it: --data {table}:label=NAME."
        )
    return has_labels


def find_split_folders(root: Path, report: Report) -> dict[SplitName, Path]:
    """The folder of each split that is there; empty if the class folders are in `root` itself.

    A folder `test/` that holds images but no folders of images is a class called "test".
    """
    homes = split_folders(root, holds_classes)
    if homes and "train" not in homes:
        held_out = next(iter(homes.values()))
        raise DataError(f"{root} has {held_out.name}/ with class folders, but no train/. Add training images.")
    others = [child.name for child in folders_in(root) if homes and child not in homes.values() and images_in(child)]
    if others:
        report(f"{root}: images in {', '.join(others)} belong to no split and were left out.")
    return homes


def find_classes(home: Path, report: Report, at_least: int = 2) -> tuple[str, ...]:
    """The names of the sub-folders that hold images, sorted; numbers by their value."""
    children = folders_in(home)
    classes = in_class_order(child.name for child in children if images_in(child))
    check_no_splits_inside(home, classes, lambda child: bool(images_in(child)))
    empty = [child.name for child in children if child.name not in classes]
    if not classes:
        raise DataError(
            f"{home} has no images in class folders. Put each class in a folder of its own: {home.name}/cat/1.jpg."
        )
    if len(classes) < at_least:
        raise DataError(f"{home} has only one class, {classes[0]!r}. Add a second class folder.")
    # A class name is printed, and stored as UTF-8 with the model: names that cannot be are refused before training.
    # Bytes that are not UTF-8 reach Python as lone surrogates, which are not printable either.
    if unreadable := [name for name in classes if not name.isprintable()]:
        raise DataError(f"{home} has a class folder whose name is not readable text: {unreadable[0]!r}. Rename it.")
    for name in empty:
        files = [path for path in (home / name).rglob("*") if path.is_file() and not is_hidden(path, home)]
        plug_in = "" if HEIF else "For .heic: pip install 'vitral[heic]'. "
        if any(path.suffix.lower() in OTHER_SUFFIXES for path in files):
            raise DataError(
                f"{home / name} has images in formats that are not read: {count_suffixes(files)}. "
                f"{plug_in}Convert them, or remove the folder."
            )
        content = f" ({count_suffixes(files)})" if files else ""
        report(f"{home}: {name}{content} has no images and was left out as a class.")
    if stray := sum(is_image(path) for path in home.iterdir()):
        report(f"{home}: {stray} images are not in a class folder and were left out.")
    return classes


def in_class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted by name; if all are numbers, by their value.

    >>> in_class_order(["b", "a"]), in_class_order(["10", "9"])
    (('a', 'b'), ('9', '10'))
    """
    every = sorted(names)
    return tuple(sorted(every, key=int) if all(name.isdecimal() and name.isascii() for name in every) else every)


def folders_in(folder: Path) -> list[Path]:
    """The sub-folders that are not hidden, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return in_order_of_names(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def count_suffixes(files: Iterable[Path]) -> str:
    """How many files there are of each suffix, the most frequent first.

    >>> count_suffixes([Path("a.txt"), Path("b.heic"), Path("c.HEIC"), Path("notes")])
    '2 .heic, 1 .txt, 1 without a suffix'
    """
    counts = Counter(path.suffix.lower() or "without a suffix" for path in files)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())


def list_examples(home: Path, classes: tuple[str, ...], report: Report, split: SplitName) -> list[Example]:
    """Every image below the class folders; reports what else is there."""
    examples = [
        Example(path, target, split=split)
        for target, name in enumerate(classes)
        if (home / name).is_dir()  # a class may have no held-out images
        for path in images_in(home / name)
    ]
    within = [path for name in classes for path in (home / name).rglob("*") if not is_hidden(path, home / name)]
    # `rglob` does not enter linked folders, which may lead in circles.
    if linked := [path for path in within if path.is_symlink() and path.is_dir()]:
        report(f"{home}: {len(linked)} links to folders inside classes were not followed, such as {linked[0]}.")
    if others := [path for path in within if path.is_file() and not is_image(path)]:
        report(f"{home}: {count_suffixes(others)} in the class folders were left out.")
    return examples
