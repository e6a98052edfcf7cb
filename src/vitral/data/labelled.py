"""A folder of images whose labels are in a table beside them: one class, several, or numbers.

The table is `labels.csv`, `metadata.csv` or `metadata.jsonl` in the folder, or in its `train/`, `val/` and `test/`.
The images of a row train, validate or test by its column `split`, else by the first folder in its `file_name`, else by
the table's own folder, else they are divided at random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from vitral.base.errors import ConfigError, DataError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import Task
from vitral.data.dataset import Dataset, Example
from vitral.data.division import Division, divide, parts_of, with_contents
from vitral.data.examples import file_of, images_in, load_examples, of_split, report_missing_classes
from vitral.data.labels import LABEL_COLUMNS, LabelOptions, read_labels
from vitral.data.reading import Reading
from vitral.data.split_folders import SPLIT_NAMES, SPLIT_OF, split_folders
from vitral.data.split_table import SPLITS, SplitName
from vitral.data.table_file import Report, Row, find_table, read_table
from vitral.data.targets import Labels, Target

SHOWN = 3  # file names in a message
BINS, IN_BIN = 10, 20  # at most so many ranges of the first number, each of so many images, are divided alike


@dataclass(frozen=True)
class TableRow:
    """A row with the folder that its image is relative to, and the split of the table that it stands in."""

    row: Row
    home: Path
    split: SplitName | None


def find_tables(root: Path) -> dict[SplitName | None, Path]:
    """The table in the folder, or those in its folders of splits; empty if labels are in no table.

    Raises `DataError` for tables on both levels, or if some split's folder with images has none.
    """
    homes = split_folders(root)
    inner = {split: table for split, home in homes.items() if (table := find_table(home))}
    if table := find_table(root):
        if inner:
            some = next(iter(inner.values()))
            raise DataError(f"{root} has tables of labels on two levels: {table} and {some}. Keep one level.")
        return {None: table}
    if inner and "train" not in inner:
        raise DataError(f"{root} has {next(iter(inner.values()))}, but no table in train/. Add training images.")
    if lacking := [home for split, home in homes.items() if inner and split not in inner and images_in(home)]:
        raise DataError(f"{lacking[0]} has images but no table of labels such as {next(iter(inner.values()))}.")
    return cast(dict[SplitName | None, Path], inner)


def labelled_folder(
    root: Path,
    tables: Mapping[SplitName | None, Path],
    options: LabelOptions,
    preprocessing: Preprocessing,
    division: Division,
    reading: Reading,
    whole: bool = False,
) -> Dataset:
    """The images that the tables name, as a data set of the task that their labels show; `whole` as in `folder`.

    `reading.report` gets a sentence for everything that was assumed or left out. Raises `DataError` for a table that
    cannot be read, names images that do not exist, or contradicts itself.
    """
    report = reading.report
    rows: list[TableRow] = []
    columns: dict[str, None] = {}
    for split, table in tables.items():
        found, own = read_table(table, report)
        rows += [TableRow(row, table.parent, split) for row in found]
        columns |= dict.fromkeys(own)
    table = next(iter(tables.values()))
    splits, used = assign_splits(table, rows, tuple(columns), report, whole)
    files = [find_image(one) for one in rows]
    check_files(table, rows, files)
    # All tables are read together: a test set alone might lack a class, or look like numbers.
    grouping = division.group_by if division.group_by in columns else None
    if grouping and (grouping in options.label or (not options.label and grouping.lower() in LABEL_COLUMNS)):
        raise ConfigError(f"--group-by {grouping}: this column of {table} has the labels. Name that of the groups.")
    others = tuple(column for column in columns if column not in (used, grouping))
    labels = read_labels(table, [one.row for one in rows], others, options, report)
    examples = merge_duplicates(table, rows, files, labels, splits, options, report)
    report_unlisted(root, table, files, report)
    groups = None
    if grouping:
        named = {file: str(one.row.values.get(grouping) or "") for file, one in zip(files, rows)}
        groups = [named[file_of(one)] for one in examples]
    stated = [one.split for one in examples]
    used_whole = whole and None in stated
    if whole and "train" not in stated:
        report(f"{table} names no training images: all of its {len(examples):,} images are used.")
        stated = [split or "test" for split in stated]
    divided = divide(
        root, [file_of(one) for one in examples], stated, strata(examples, labels), division, report, groups
    )
    examples = with_contents(examples, divided)
    parts = dict.fromkeys(SPLITS, examples) if used_whole else parts_of(examples, divided)
    if "train" in parts:
        check_classes(table, parts, labels, report)
    report(summary(table, parts, labels))
    return Dataset(
        str(root),
        labels.names,
        preprocessing,
        lambda split: load_examples(
            of_split(parts, split, root), labels.names, labels.task, preprocessing, split, reading
        ),
        labels.task,
        tuple(parts),
        tuple(row for row in divided if row is not None),
    )


def assign_splits(
    table: Path, rows: Sequence[TableRow], columns: Sequence[str], report: Report, whole: bool
) -> tuple[list[SplitName | None], str | None]:
    """The split of each row, None where it is to be drawn; and the column that says so, None if none does.

    Some must train, unless the folder is to be judged `whole`.
    """
    own = [one.split for one in rows]
    column = next((name for name in columns if name.lower() == "split"), None)
    if column and all(split is None for split in own):
        named = [str(one.row.values.get(column) or "").strip().lower() for one in rows]
        if wrong := [(one.row.line, name) for one, name in zip(rows, named) if name not in SPLIT_OF]:
            raise DataError(
                f"{table}, line {wrong[0][0]}: {column} is {wrong[0][1]!r}. Splits: {', '.join(SPLIT_NAMES)}. Rename "
                "the column if it means something else."
            )
        if not whole and "train" not in {SPLIT_OF[name] for name in named}:
            raise DataError(f"{table} has no row whose {column} is train. Add training images.")
        return [SPLIT_OF[name] for name in named], column
    first = [Path(one.row.file.replace("\\", "/")).parts[0].lower() for one in rows]
    if all(split is None for split in own) and all(name in SPLIT_OF for name in first):
        found = {SPLIT_OF[name] for name in first}
        if "train" in found and len(found) > 1:
            report(f"{table}: images belong to the split whose folder their file_name begins with.")
            return [SPLIT_OF[name] for name in first], column
    return own, column


def find_image(one: TableRow) -> Path | None:
    """The file that a row names, relative to its table's folder; None if it does not exist."""
    for name in dict.fromkeys((one.row.file, one.row.file.replace("\\", "/"))):
        if (path := one.home / name).is_file():
            return path
    return None


def check_files(table: Path, rows: Sequence[TableRow], files: Sequence[Path | None]) -> None:
    """Raise `DataError` for rows whose images do not exist."""
    missing = [one for one, file in zip(rows, files) if file is None]
    if not missing:
        return
    some = ", ".join(f"{one.row.file} (line {one.row.line})" for one in missing[:SHOWN])
    near = missing[0].home / missing[0].row.file
    beside = sorted(near.parent.glob(f"{near.name}.*")) if near.parent.is_dir() else []
    hint = f" There is {beside[0].name}: write the suffix in file_name." if beside else ""
    raise DataError(
        f"{table} names {len(missing)} image{'s' * (len(missing) > 1)} that {'do' if len(missing) > 1 else 'does'} not "
        f"exist: {some}{', ...' if len(missing) > SHOWN else ''}. Names are relative to {missing[0].home}.{hint}"
    )


def merge_duplicates(
    table: Path,
    rows: Sequence[TableRow],
    files: Sequence[Path | None],
    labels: Labels,
    splits: Sequence[SplitName | None],
    options: LabelOptions,
    report: Report,
) -> list[Example]:
    """One example per image. Several rows of one image are one if they agree; several classes are put together if that
    task was specified. Raises `DataError` for rows that contradict each other.
    """
    examples: dict[Path, Example] = {}
    lines: dict[Path, int] = {}
    twice = 0
    for one, file, target, split in zip(rows, files, labels.targets, splits):
        assert file is not None
        before = examples.get(file)
        if before is None:
            examples[file], lines[file] = Example(file, target, split=split), one.row.line
            continue
        twice += 1
        if before.split != split:
            raise DataError(f"{table}: {one.row.file} is in two splits, {before.split} and {split}. Keep one.")
        if before.target == target:
            continue
        if options.task == "several classes":
            both: Target = tuple(bool(a or b) for a, b in zip(as_tuple(before.target), as_tuple(target)))
            examples[file] = replace(before, target=both)
            continue
        hint = (
            f" If an image can have several classes: {options.ask('task=several_classes')}."
            if labels.task == "one class"
            else ""
        )
        raise DataError(
            f"{table} has {one.row.file} with different labels in lines {lines[file]} and {one.row.line}. Keep "
            f"one.{hint}"
        )
    if twice:
        how = "put together" if options.task == "several classes" else "the same label, and count once"
        report(f"{table}: {twice} rows name an image again; they have {how}.".replace("have put", "were put"))
    return list(examples.values())


def as_tuple(target: object) -> tuple[bool, ...]:
    assert isinstance(target, tuple)
    return target


def report_unlisted(root: Path, table: Path, files: Sequence[Path | None], report: Report) -> None:
    """Report images in the folder that no row names."""
    named = {file.resolve() for file in files if file is not None}
    if unlisted := [path for path in images_in(root) if path.resolve() not in named]:
        report(
            f"{len(unlisted)} images in {root} have no row in {table.name} and were left out, such as "
            f"{unlisted[0].name}."
        )


def strata(examples: Sequence[Example], labels: Labels) -> np.ndarray:
    """A class for each image by which the division is fair: its class, its rarest class, or the range of its number."""
    targets = np.array([example.target for example in examples])
    match labels.task:
        case "numbers":
            ranks = targets[:, 0].argsort(kind="stable").argsort(kind="stable")
            return ranks * max(1, min(BINS, len(ranks) // IN_BIN)) // len(ranks)
        case "several classes":
            # An image counts for the rarest of its classes, so that both sides get some of each.
            rare_first = targets.sum(axis=0).argsort(kind="stable")
            return np.where(targets.any(axis=1), targets[:, rare_first].argmax(axis=1), targets.shape[1])
        case _:
            return targets


def check_classes(table: Path, parts: Mapping[SplitName, Sequence[Example]], labels: Labels, report: Report) -> None:
    """Raise `DataError` for a class that no training image has; report one that no held-out image has."""
    if labels.task == "numbers":
        return
    trained = np.array([example.target for example in parts["train"]])
    seen = set(trained.tolist()) if labels.task == "one class" else set(np.flatnonzero(trained.any(axis=0)).tolist())
    if lost := [name for index, name in enumerate(labels.names) if index not in seen]:
        raise DataError(
            f"{table} has no training image of {', '.join(lost[:5])}{', ...' if len(lost) > 5 else ''}. Add some, or "
            "remove the class."
        )
    report_missing_classes(parts, labels.names, report)


def summary(table: Path, parts: Mapping[SplitName, Sequence[Example]], labels: Labels) -> str:
    """The task and what there is of it, in a sentence."""
    task: Task = labels.task
    some = ", ".join(labels.names[:8]) + (", ..." if len(labels.names) > 8 else "")
    targets = np.array([example.target for own in parts.values() for example in own], dtype=np.float64)
    if task == "numbers":
        low, high = targets.min(axis=0), targets.max(axis=0)
        ranges = [f"{name} from {a:g} to {b:g}" for name, a, b in zip(labels.names, low, high)]
        return f"{table}: numbers: {', '.join(ranges[:8])}{', ...' if len(ranges) > 8 else ''}."
    if task == "several classes":
        return f"{table}: several classes per image, {targets.sum() / len(targets):.1f} on average, of {some}."
    return f"{table}: one class per image, of {some}."
