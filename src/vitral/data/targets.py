"""One target per image, made of the labels in a table: a class, several classes, or numbers."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitral.base.errors import DataError
from vitral.base.record import Task
from vitral.data.table_file import Report, Row
from vitral.data.table_values import is_missing, number

SHOWN = 3  # examples in a message

Target = int | tuple[bool, ...] | tuple[float, ...]


@dataclass(frozen=True)
class Labels:
    """The task, the names of the classes or numbers, and one target per row."""

    task: Task
    names: tuple[str, ...]
    targets: tuple[Target, ...]


def several(table: Path, rows: Sequence[Row], lists: Sequence[Sequence[str]], report: Report) -> Labels:
    """Several classes per image, from lists of their names; an empty list is an image with none of the classes."""
    if missing := [row for row, own in zip(rows, lists) if any(is_missing(one) for one in own)]:
        raise DataError(f"{table}, line {missing[0].line} lists a class without a name.")
    names = class_names(table, [one for own in lists for one in own])
    if none := sum(not own for own in lists):
        report(f"{table}: {none} images have no label and are read as images with none of the classes.")
    return Labels("several classes", names, tuple(tuple(name in set(own) for name in names) for own in lists))


def one_class(table: Path, texts: Sequence[str], report: Report) -> Labels:
    """One class per image, by its name."""
    names = class_names(table, texts)
    lower = Counter(name.lower() for name in names)
    if alike := [name for name in names if lower[name.lower()] > 1]:
        report(f"{table}: the classes {', '.join(alike)} differ in capitals only and are read as different classes.")
    place = {name: index for index, name in enumerate(names)}
    return Labels("one class", names, tuple(place[one] for one in texts))


def class_names(table: Path, texts: Sequence[str]) -> tuple[str, ...]:
    """The distinct names, numbers in their own order. Raises `DataError` for fewer than two, or unreadable ones."""
    distinct = set(texts)
    if unreadable := [name for name in distinct if not name.isprintable()]:
        raise DataError(f"{table} has a class whose name is not readable text: {unreadable[0]!r}. Rename it.")
    if len(distinct) < 2:
        raise DataError(
            f"{table} has only {'one class, ' + repr(texts[0]) if distinct else 'images without a class'}. "
            "There is nothing to distinguish."
        )
    whole = all(re.fullmatch(r"\d+", name) for name in distinct)
    return tuple(sorted(distinct, key=lambda name: (int(name), name) if whole else (0, name)))


def numbers_of(
    table: Path, rows: Sequence[Row], names: Sequence[str], values: Sequence[Sequence[Any]]
) -> tuple[tuple[float, ...], ...]:
    """Finite numbers. Raises `DataError`, with the line, for anything else, and for a number that never varies."""
    found = []
    for row, own in zip(rows, values):
        numbers = []
        for name, value in zip(names, own):
            if is_missing(value):
                refuse_missing(table, [(row, name)])
            one = number(value)
            if one is None or not math.isfinite(one):
                raise DataError(f"{table}, line {row.line}: {name} must be a finite number; found {value!r}.")
            numbers.append(one)
        found.append(tuple(numbers))
    for name, column in zip(names, zip(*found)):
        if len(set(column)) == 1:
            raise DataError(f"{table}: {name} is {column[0]:g} in every row, so there is nothing to predict.")
    return tuple(found)


def refuse_missing(table: Path, missing: Sequence[tuple[Row, str]]) -> None:
    """Raise `DataError` if labels are missing, with the first of them."""
    if missing:
        some = "; ".join(f"line {row.line}, {row.file}, {name}" for row, name in missing[:SHOWN])
        raise DataError(
            f"{table} lacks {len(missing)} label{'s' * (len(missing) > 1)} ({some}"
            f"{'; ...' if len(missing) > SHOWN else ''}). Fill them in, or remove those rows."
        )
