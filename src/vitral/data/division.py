"""Divide images into those that train, validate and test, where neither folders nor tables say which.

The division is by what is in the files, not by their names or their order, and copies are never divided. Its rules are
those of `data.split_table`.

Axes:  n images   k strata: classes, or ranges of a number
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Integer

from vitral.base.errors import ConfigError, DataError
from vitral.base.plural import one_or_many
from vitral.data.joining import joined
from vitral.data.split_table import SPLITS, SplitName, SplitRow, pattern_beside, read_splits
from vitral.data.table_file import Report

SHARE = 0.15  # of the images of each class, for validation and again for testing
HELD_OUT: tuple[SplitName, ...] = ("val", "test")
T = TypeVar("T")


@dataclass(frozen=True)
class Division:
    """How images are divided.

    `val` and `test` are shares of the images of each class; a share of 0 holds none out. `group_by` is a regular
    expression that is searched for in the path of each image within its data folder: images are one group if it finds
    the same in them, or if its first parentheses do; for a table of labels it may name a column. `known` are the rows
    of an earlier division, read from `known_from`; with `only_known`, other images are left out.
    """

    seed: int = 0
    val: float = SHARE
    test: float = SHARE
    group_by: str | None = None
    known: tuple[SplitRow, ...] = ()
    known_from: str = ""
    only_known: bool = False


DEFAULT = Division()


def earlier_division(table: Path) -> Division:
    """That of a `splits.csv`, by the groups of its run. Raises `DataError` for a table that contradicts itself."""
    return Division(known=tuple(read_splits(table)), known_from=str(table), group_by=pattern_beside(table))


@dataclass(frozen=True)
class Unit:
    """Images that stay together, by their places: a group, or copies of one; and the split that they have had."""

    members: list[int]
    split: SplitName | None
    content: str


def divide(
    root: Path,
    files: Sequence[Path],
    stated: Sequence[SplitName | None],
    strata: Integer[np.ndarray, " n"],
    division: Division,
    report: Report,
    groups: Sequence[str] | None = None,
) -> list[SplitRow | None]:
    """The row of each file; None for one that is left out.

    `stated` is the split that its folder or table says. Where no file is stated to validate, or to test, some of those
    that train, or of which nothing is stated, are held out, with alike shares of each of `strata`. `groups` are those
    that a table states.

    Raises `DataError` if there are too few images or groups to hold some out, or if a group would be in two splits.
    """
    names = [os.path.relpath(file, root).replace(os.sep, "/") for file in files]
    groups = find_groups(root, names, division, report) if groups is None else groups
    if division.group_by and not division.known and len(names) > 1 and len(set(groups)) == len(names):
        report(
            f"--group-by {division.group_by!r} finds a group of its own for each of {len(names)} images, such as "
            f"{groups[0]!r}: it keeps nothing together."
        )
    contents = contents_of(files)
    splits = dict(enumerate(stated))
    if division.only_known:
        known = {row.content for row in division.known}
        splits = {index: split for index, split in splits.items() if contents[index] in known}
        new = [name for index, name in enumerate(names) if index not in splits]
        report_new(root, new, len(files), division, report)
    check_groups(root, names, splits, groups, division)
    free = [index for index, split in splits.items() if split in (None, "train")]
    shares = {split: share for split, share in shares_of(division).items() if split not in stated}
    for name, share in shares_of(division).items():
        if name in stated and share != SHARE and not division.only_known:
            report(f"--{name}-split {share:g} is not used: {root} has {name} images of its own.")
    if free and (None in stated or (shares and (any(shares.values()) or division.known))):
        units = units_of(free, names, contents, groups, division, {"train", *shares})
        splits |= share_out(units, strata, shares, division.seed)
        check_divided(root, splits, free, shares, strata, division, len(units))
        report(sentence(root, [splits[index] for index in free], units, shares, division))
    return [
        SplitRow(content, split, group, name) if (split := splits.get(index)) else None
        for index, (content, group, name) in enumerate(zip(contents, groups, names))
    ]


def shares_of(division: Division) -> dict[SplitName, float]:
    return {"val": division.val, "test": division.test}


def contents_of(files: Sequence[Path]) -> list[str]:
    """The SHA-256 of each file."""

    def digest(file: Path) -> str:
        try:
            with file.open("rb") as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError:  # it is named with all others that cannot be read, once images are
            return hashlib.sha256(os.fsencode(file)).hexdigest()

    with ThreadPoolExecutor() as pool:
        return list(pool.map(digest, files))


def find_groups(root: Path, names: Sequence[str], division: Division, report: Report) -> list[str]:
    """What the pattern finds in each name; empty for a name in which it finds nothing, or without a pattern.

    Raises `ConfigError` for a pattern that is no regular expression, `DataError` if it finds nothing in any name,
    unless it is that of an earlier run, whose images may be others.
    """
    pattern = division.group_by
    if not pattern:
        return [""] * len(names)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--group-by {pattern!r} is not a regular expression: {error}.") from error
    found = [expression.search(name) for name in names]
    groups = ["" if one is None else (one.group(1) or "") if expression.groups else one.group() for one in found]
    alone = [name for name, group in zip(names, groups) if not group]
    if len(alone) == len(names) and division.known:
        return groups
    if len(alone) == len(names):
        raise DataError(f"--group-by {pattern!r} finds nothing in the paths of {root}, such as {names[0]}.")
    if alone:
        report(
            f"--group-by {pattern!r} finds nothing in {len(alone)} paths, such as {alone[0]}: each is a group of its "
            "own."
        )
    return groups


def units_of(
    free: Sequence[int],
    names: Sequence[str],
    contents: Sequence[str],
    groups: Sequence[str],
    division: Division,
    possible: set[SplitName],
) -> list[Unit]:
    """Images that stay together, and the split that they have had."""
    before = {row.content: row for row in division.known} | {row.group: row for row in division.known if row.group}
    units = []
    for places in joined(alike(free, contents, groups), len(free)):
        members = [free[place] for place in places]
        had = {
            row.split: row for index in members for key in (contents[index], groups[index]) if (row := before.get(key))
        }
        if len(had) > 1:
            one, other = list(had.values())[:2]
            raise DataError(
                f"{names[members[0]]} is in one group with {len(members) - 1} other images, which are in different "
                f"splits in {division.known_from}: {one.path} in {one.split} and {other.path} in {other.split}. Leave "
                "--group-by out, or leave out the run whose splits are used (--splits or --init)."
            )
        split = next(iter(had), None)
        units.append(Unit(members, split if split in possible else None, min(contents[index] for index in members)))
    return units


def alike(free: Sequence[int], contents: Sequence[str], groups: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of places in `free` whose images have the same content, or are of one group."""
    for keys in (contents, groups):
        first: dict[str, int] = {}
        for place, index in enumerate(free):
            if keys[index]:
                yield first.setdefault(keys[index], place), place


def share_out(
    units: Sequence[Unit], strata: Integer[np.ndarray, " n"], shares: Mapping[SplitName, float], seed: int
) -> dict[int, SplitName]:
    """The split of each image: that which its unit has had, else the one that is furthest below its share."""
    _, strata = np.unique(strata, return_inverse=True)
    counts = np.bincount(np.concatenate([strata[unit.members] for unit in units]))
    every: dict[SplitName, float] = {"train": 1 - sum(shares.values()), **shares}
    wanted = {split: share * counts for split, share in every.items()}  # (k) images of each split
    lacking = {split: own.copy() for split, own in wanted.items()}
    offered = [split for split, share in every.items() if share > 0]
    found: dict[int, SplitName] = {}
    filled: set[SplitName] = set()

    def give(unit: Unit, split: SplitName) -> None:
        np.subtract.at(lacking[split], strata[unit.members], 1)
        found.update(dict.fromkeys(unit.members, split))
        filled.add(split)

    new = [unit for unit in units if not unit.split]
    for unit in units:
        if unit.split:
            give(unit, unit.split)
    # A large group fits anywhere at first, and nowhere at last.
    for place, unit in enumerate(sorted(new, key=lambda one: (-len(one.members), digest(seed, one.content)))):
        own, among = strata[unit.members], offered
        empty = [split for split in offered if split not in filled]
        if len(empty) >= len(new) - place and (lacking["train"][own] < wanted["train"][own]).all():
            among = empty  # so few are left that each of these splits needs one
        # Rounded, since equal sums of shares differ in their last digits. Between equals, the whole decides.
        give(unit, max(among, key=lambda split: (lacking[split][own].mean().round(6), lacking[split].sum().round(6))))
    return found


def digest(seed: int, content: str) -> str:
    return hashlib.sha256(f"{seed} {content}".encode()).hexdigest()


def check_divided(
    root: Path,
    splits: Mapping[int, SplitName | None],
    free: Sequence[int],
    shares: Mapping[SplitName, float],
    strata: Integer[np.ndarray, " n"],
    division: Division,
    sets: int,
) -> None:
    """Raise `DataError` for a split of a positive share that has no image; `sets` stay together."""
    wanted: list[SplitName] = ["train", *(split for split, share in shares.items() if share)]
    have = {splits[index] for index in free}
    if lacking := [split for split in wanted if split not in have]:
        kinds = len(np.unique(strata[free]))
        classes = f" in {kinds} classes" if kinds > 1 else ""
        kind = "groups, which stay together" if division.group_by else "different images; copies stay together"
        alike = f" There are {sets} {kind}." if sets < len(free) else ""
        without_test = " To hold none out for a test: --test-split 0." if "test" in lacking else ""
        raise DataError(
            f"{root} has {len(free)} images{classes}: too few to hold some out, since {' and '.join(lacking)} would "
            f"have none.{alike or ' Add images until each class has at least 10.'}{without_test}"
        )


def check_groups(
    root: Path,
    names: Sequence[str],
    splits: Mapping[int, SplitName | None],
    groups: Sequence[str],
    division: Division,
) -> None:
    """Raise `DataError` for a group whose images are stated to be in two splits."""
    first: dict[str, int] = {}
    across: dict[str, tuple[int, int]] = {}
    for index, split in splits.items():
        if groups[index] and splits[one := first.setdefault(groups[index], index)] != split:
            across[groups[index]] = one, index
    if across:
        group, (one, other) = next(iter(across.items()))
        raise DataError(
            f"{root} has {one_or_many(len(across), 'group')} by --group-by {division.group_by!r} in two splits: "
            f"{group!r} has {names[one]} in {splits[one]} and {names[other]} in {splits[other]}. Move the images of a "
            "group into one split."
        )


def report_new(root: Path, new: Sequence[str], count: int, division: Division, report: Report) -> None:
    """Report images that an earlier division does not know, and that are left out."""
    if new:
        report(
            f"{len(new)} of {count} images in {root} are not in {division.known_from}, such as {new[0]}: they are new "
            "or have changed, and were left out."
        )


def sentence(
    root: Path,
    found: Sequence[SplitName | None],
    units: Sequence[Unit],
    shares: Mapping[SplitName, float],
    division: Division,
) -> str:
    """How the images were divided, in words."""
    counts = ", ".join(f"{found.count(split)} {split}" for split in SPLITS if split in found)
    held_out = [split for split in shares if split in found]
    kept = sum(len(unit.members) for unit in units if unit.split)
    together = [unit for unit in units if len(unit.members) > 1]
    if kept == len(found):
        return f"{root}: images keep the splits that they have in {division.known_from}: {counts}."
    text = (
        f"{root} has no {' or '.join(held_out)} images of its own: its images were divided at random (seed "
        f"{division.seed}) into {counts}"
    )
    if division.known and not kept:
        text += f"; none of them is in {division.known_from}"
    if kept:
        text += f"; {kept} of them keep the split that they have in {division.known_from}"
    if together:
        images, kind = sum(len(unit.members) for unit in together), "groups" if division.group_by else "sets of copies"
        text += f"; {images} of them are in {len(together)} {kind}, each in one split"
    return f"{text}."


def with_contents(items: Sequence[T], rows: Sequence[SplitRow | None]) -> list[T]:
    """The items, which are dataclasses, with the `content` of their rows."""
    each: Sequence[Any] = items
    return [item if row is None else replace(item, content=row.content) for item, row in zip(each, rows)]


def parts_of(items: Sequence[T], rows: Sequence[SplitRow | None]) -> dict[SplitName, list[T]]:
    """The items of each split that there is, in their order."""
    parts: dict[SplitName, list[T]] = {}
    for split in SPLITS:
        if own := [item for item, row in zip(items, rows) if row is not None and row.split == split]:
            parts[split] = own
    return parts
