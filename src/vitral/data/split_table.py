"""`splits.csv`: which image trains, which validates and which tests, the same whenever the folder is read again."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Literal, cast, get_args

import yaml

from vitral.base.errors import DataError
from vitral.base.files import write_file

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
TABLE, CHECKPOINTS = "splits.csv", "checkpoints"
EARLIER = "earlier run: "  # before the path of an image of another run, from which this one started


@dataclass(frozen=True)
class SplitRow:
    """The split of one image content.

    `content` is the SHA-256 of the file's bytes in hexadecimal. It identifies the image: a renamed or moved file keeps
    its split, and two copies of a file share one. `path`, relative to the data folder, is there for people to read.

    How a split is assigned, where no folder or table of labels says which (`data.division`):

    1. Content in the table keeps its split. Files that are gone keep their rows, in case they come back.
    2. Content of a group in the table takes the split of the group. An image without a group is a group of its own.
    3. New groups, the largest first, then in the order of the SHA-256 of the seed and the group's smallest content,
       each join the split that is furthest below its share of the group's classes. So classes are shared out evenly,
       the names and the order of files do not matter, and adding files moves none of the files that were there.
    """

    content: str
    split: SplitName
    group: str
    path: str


COLUMNS = tuple(field.name for field in fields(SplitRow))


def write_splits(path: Path, rows: Sequence[SplitRow]) -> None:
    """Write the table atomically, sorted by path, so that two versions can be compared line by line."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(map(astuple, sorted(rows, key=lambda row: (row.path, row.content))))
    write_file(path, text.getvalue())


def read_splits(path: Path) -> list[SplitRow]:
    """Read the table back.

    Raises `DataError` for a file without its columns, for an unknown split, and where a content or a group is assigned
    to two splits.
    """
    rows: list[SplitRow] = []
    split_of: dict[tuple[str, str], str] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file, strict=True)
            if missing := set(COLUMNS) - set(table.fieldnames or ()):
                raise DataError(f"{path} lacks the columns {', '.join(sorted(missing))}. Needed: {','.join(COLUMNS)}.")
            for line in table:
                content, split, group, image = (line[name] or "" for name in COLUMNS)
                if split not in SPLITS:
                    raise DataError(f"{path} assigns {image} to {split!r}. Splits: {', '.join(SPLITS)}.")
                for key in (("content", content), ("group", group)):
                    if key[1] and (other := split_of.setdefault(key, split)) != split:
                        raise DataError(f"{path} assigns {' '.join(key)} to both {other} and {split}. Keep one.")
                rows.append(SplitRow(content, cast(SplitName, split), group, image))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}. Restore or delete it.") from error
    return rows


def one_split_each(rows: Sequence[SplitRow]) -> list[SplitRow]:
    """The rows with copies in one split: with folders for splits they may be in several, and that which trains counts.

    What has trained a model is known to it, wherever its copies are.
    """
    first: dict[str, SplitName] = {}
    for row in sorted(rows, key=lambda row: SPLITS.index(row.split)):
        first.setdefault(row.content, row.split)
    return [replace(row, split=first[row.content]) for row in rows]


def splits_at(path: Path) -> Path:
    """The table that a path names: itself, or that of a run. Raises `DataError` if there is none."""
    table = path / TABLE if path.is_dir() else path
    if not table.is_file():
        raise DataError(f"There is no {table}. Specify a run that was trained on a folder, or its {TABLE}.")
    return table


def splits_beside(model: Path) -> Path | None:
    """The table of the run that a model is in, by the path of either; None where there is none."""
    home = model if model.is_dir() else model.parent
    if home.parent.name == CHECKPOINTS:  # one of those that a run continues from
        home = home.parent.parent
    return home / TABLE if (home / TABLE).is_file() else None


def pattern_beside(table: Path) -> str | None:
    """The pattern by which the run grouped its images, from the settings beside its table; None if it had none."""
    settings = table.parent / "config.yaml"
    try:
        found = yaml.safe_load(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return found.get("group_by") if isinstance(found, dict) else None


def with_earlier(rows: Sequence[SplitRow], known: Sequence[SplitRow]) -> list[SplitRow]:
    """The rows of a run, and those of the runs before it whose images it does not have: these trained it, too."""
    own = {row.content for row in rows}
    paths = [row.path if row.path.startswith(EARLIER) else f"{EARLIER}{row.path}" for row in known]
    return [*rows, *(replace(row, path=path) for row, path in zip(known, paths) if row.content not in own)]
