"""Check the numbers that select layers, heads, tokens and patches: Python's or NumPy's integers, never True or 1.5."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from vitral.base.errors import UsageError

Grid = tuple[int, int]


def is_index(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_index_list(values: object) -> bool:
    """Whether these are integers, at least one."""
    return isinstance(values, Sequence) and bool(values) and all(map(is_index, values))


def is_pair(value: object) -> bool:
    """Whether it is two integers, such as the row and column of a patch."""
    return isinstance(value, tuple | list | np.ndarray) and len(value) == 2 and all(map(is_index, value))


def check_patch(patch: Any, grid: Grid, where: str = "the map") -> Grid:
    """The patch's row and column. Raises `UsageError` if it does not exist; `where` names what has the grid."""
    if not is_pair(patch):
        raise UsageError(f"{patch!r} is not a patch: give (row, column), two integers.")
    row, column = map(int, patch)
    if not (0 <= row < grid[0] and 0 <= column < grid[1]):
        raise UsageError(
            f"There is no patch at row {row}, column {column}: {where} has rows 0 to {grid[0] - 1} and columns 0 to "
            f"{grid[1] - 1}."
        )
    return row, column


def select(indices: Sequence[int] | None, count: int, kind: str) -> list[int]:
    """The selected indices, or all; negative ones count from the end. Raises `UsageError` for any that do not exist."""
    if indices is None:
        return list(range(count))
    is_list = isinstance(indices, Sequence | np.ndarray) and not isinstance(indices, str)
    if not is_list or not all(map(is_index, indices)):
        raise UsageError(f"{kind}s={indices!r} is not a list of integers, as in {kind}s=[0].")
    if not len(indices):
        raise UsageError(f"No {kind} was selected: the model has {count}, 0 to {count - 1}.")
    if wrong := [int(index) for index in indices if not -count <= index < count]:
        raise UsageError(f"There is no {kind} {', '.join(map(str, wrong))}: the model has {count}, 0 to {count - 1}.")
    return [int(index) % count for index in indices]
