"""The numbers by which layers, heads and patches are asked for: Python's own or NumPy's, never True or 1.5."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from vitral.base.errors import UsageError
from vitral.explain.subject import pick
from vitral.explain.tokens import Grid


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
