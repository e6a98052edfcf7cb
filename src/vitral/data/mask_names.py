"""The names of a mask folder's classes: `classes.txt`, `classes.csv`, or numbers."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitral.base.errors import DataError
from vitral.base.mask_values import IGNORED, MOST_CLASSES
from vitral.data.mask_file import Colour
from vitral.data.table_file import Report

FILES = ("classes.txt", "classes.csv")


@dataclass(frozen=True)
class MaskClasses:
    """Names in the order of their indices, and which class each colour stands for, where the file says so."""

    names: tuple[str, ...]
    source: Path
    colours: Mapping[Colour, int] | None = None


def read_mask_classes(root: Path, report: Report) -> MaskClasses | None:
    """What a file in the folder says of the classes; None if there is none.

    `classes.txt` has one name per line, the first for index 0. `classes.csv` has a column `name`, perhaps `id` (else
    rows are counted from 0), and `red`, `green`, `blue` for masks that are stored in colours. Raises `DataError` for a
    file that contradicts itself.
    """
    found = [root / name for name in FILES if (root / name).is_file()]
    if len(found) > 1:
        report(
            f"{root} has {found[0].name} and {found[1].name}: the names are read from {found[1].name}, and not from "
            f"{found[0].name}."
        )
    if not found:
        return None
    file = found[-1]
    classes = from_csv(file) if file.suffix == ".csv" else from_lines(file)
    if repeated := {name for name in classes.names if classes.names.count(name) > 1}:
        raise DataError(f"{file} names {sorted(repeated)[0]!r} twice. Give each class a name of its own.")
    if not 2 <= len(classes.names) <= MOST_CLASSES:
        raise DataError(f"{file} names {len(classes.names)} classes; masks can have 2 to {MOST_CLASSES}.")
    return classes


def from_lines(file: Path) -> MaskClasses:
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if empty := [number for number, line in enumerate(lines, 1) if not line.strip()]:
        raise DataError(f"{file}, line {empty[0]} is empty: line 1 is class 0, line 2 class 1. Name every class.")
    return MaskClasses(tuple(line.strip() for line in lines), file)


def from_csv(file: Path) -> MaskClasses:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = [
            {(key or "").strip().lower(): (value or "").strip() for key, value in row.items()}
            for row in csv.DictReader(stream)
        ]
    if not rows or "name" not in rows[0]:
        raise DataError(f"{file} needs a first line with the column name (and perhaps id, red, green, blue).")
    try:
        ids = [int(row["id"]) if "id" in row else place for place, row in enumerate(rows)]
        has_colours = {"red", "green", "blue"} <= set(rows[0])
        colours = [(int(row["red"]), int(row["green"]), int(row["blue"])) for row in rows] if has_colours else []
    except ValueError as error:
        raise DataError(f"{file}: id, red, green and blue must be whole numbers ({error}).") from error
    kept = [place for place, own in enumerate(ids) if own != IGNORED]  # a row for what is ignored names no class
    if nameless := [place for place in kept if not rows[place]["name"]]:
        raise DataError(f"{file}, line {nameless[0] + 2} has no name. Name every class.")
    if sorted(ids[place] for place in kept) != list(range(len(kept))):
        raise DataError(f"{file}: the ids must be 0 to {len(kept) - 1}, each once ({IGNORED} for ignored pixels).")
    if len(set(colours)) != len(colours):
        raise DataError(f"{file} gives two classes the same colour.")
    names = tuple(rows[place]["name"] for place in sorted(kept, key=lambda place: ids[place]))
    return MaskClasses(names, file, dict(zip(colours, ids)) if has_colours else None)
