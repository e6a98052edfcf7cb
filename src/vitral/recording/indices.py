"""The numbers by which layers, heads and patches are asked for: Python's own or NumPy's, never True or 1.5."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from vitral.base.errors import UsageError
from vitral.recording.roles import Grid


def is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_pair(value: object) -> bool:
    """Whether it is two whole numbers, as the row and column of a patch are."""
    return isinstance(value, tuple | list | np.ndarray) and len(value) == 2 and all(map(is_whole, value))


def check_patch(patch: Any, grid: Grid, where: str = "the map") -> Grid:
    """The patch's row and column. Raises `UsageError` if there is none; `where` is what has the grid."""
    if not is_pair(patch):
        raise UsageError(f"{patch!r} is no patch: it takes (row, column), two whole numbers.")
    row, column = map(int, patch)
    if not (0 <= row < grid[0] and 0 <= column < grid[1]):
        raise UsageError(
            f"There is no patch at row {row}, column {column} of {grid[0]} x {grid[1]}: {where} has rows 0 to "
            f"{grid[0] - 1} and columns 0 to {grid[1] - 1}."
        )
    return row, column


def chosen(asked: Sequence[int] | None, count: int, what: str) -> list[int]:
    """The indices asked for, or all; negative ones count from the end. Raises `UsageError` for what is none."""
    if asked is None:
        return pick(None, count, what)
    listed = isinstance(asked, Sequence | np.ndarray) and not isinstance(asked, str)
    if not listed or not all(map(is_whole, asked)):
        raise UsageError(f"{what}s={asked!r} is no list of numbers, as in {what}s=[0].")
    return pick([int(index) for index in asked], count, what)


def pick(chosen: Sequence[int] | None, count: int, what: str) -> list[int]:
    """The indices asked for, or all; negative ones count from the end."""
    wanted = range(count) if chosen is None else chosen
    if not isinstance(wanted, Sequence | range) or not all(isinstance(index, int) for index in wanted):
        raise UsageError(f"{what}s={chosen!r} is no list of numbers, as in {what}s=[0].")
    if not len(wanted):
        raise UsageError(f"No {what} was chosen: the model has {count}, 0 to {count - 1}.")
    if wrong := [index for index in wanted if not -count <= index < count]:
        raise UsageError(f"There is no {what} {', '.join(map(str, wrong))}: the model has {count}, 0 to {count - 1}.")
    return [index % count for index in wanted]
