"""A description of where two results differ: the first place, the numbers around it, and a picture of the pattern."""

from typing import Any

import torch
from torch import Tensor

from vitral.lab.recorder import ABSOLUTE, RELATIVE

ROW_LENGTH = 6  # numbers printed of a row
PICTURE_SIZE = (12, 36)  # at most this many rows and columns
INVISIBLE = 1e-4  # a smaller difference does not show in four decimals


def describe_difference(one: Any, other: Any, name: str, other_name: str) -> str:
    """Return a few lines: the first place where the two differ, and the numbers around it."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return align_lines(name, shorten(one), other_name, shorten(other))
    if one.shape != other.shape:
        return align_lines(name, f"shape {tuple(one.shape)}", other_name, f"shape {tuple(other.shape)}")
    one, other = one.detach().double(), other.detach().double()
    if one.ndim == 0:
        return align_lines(name, f"{float(one):.10g}", other_name, f"{float(other):.10g}")
    differs = ~torch.isclose(one, other, RELATIVE, ABSOLUTE, equal_nan=True)
    first = differs.nonzero()[0].tolist() if differs.any() else [0] * one.ndim
    # One number before the first difference is printed too, but the row never runs past its end.
    start = max(0, min(first[-1] - 1, one.shape[-1] - ROW_LENGTH))
    row = (*first[:-1], slice(start, start + ROW_LENGTH))
    where = f"[{', '.join([*map(str, first[:-1]), f'{start}:{start + len(one[row])}'])}]"
    summary = f"{int(differs.sum())} of {differs.numel()} numbers differ, the first at [{', '.join(map(str, first))}]"
    if (largest := float((one - other).abs().max())) < INVISIBLE:
        summary += f", by at most {largest:.0e}: look for an eps in the wrong place, or a change of dtype on the way"
    rows = align_lines(f"{name}{where}", format_numbers(one[row]), f"{other_name}{where}", format_numbers(other[row]))
    return "\n".join(filter(None, (summary, rows, draw_pattern(differs, first))))


def draw_pattern(differs: Tensor, first: list[int]) -> str:
    """Draw which numbers differ around the first, over the last two axes; return "" if all of them differ.

    The pattern often shows the mistake: a wrong column, a wrong patch, everything behind the first token.
    """
    leading = tuple(first[:-2])
    plane = torch.atleast_2d(differs[leading])
    top, left = (
        max(0, min(index - 1, size - most)) for index, size, most in zip([0, *first][-2:], plane.shape, PICTURE_SIZE)
    )
    plane = plane[top : top + PICTURE_SIZE[0], left : left + PICTURE_SIZE[1]]
    if plane.all():
        return ""
    spans = [f"{top}:{top + plane.shape[0]}"] * (differs.ndim > 1) + [f"{left}:{left + plane.shape[1]}"]
    rows = ["    " + " ".join("■" if mark else "·" for mark in row) for row in plane.tolist()]
    return "\n".join([f"  where they differ (■), [{', '.join([*map(str, leading), *spans])}]:", *rows])


def align_lines(name: str, value: str, other_name: str, other: str) -> str:
    width = max(len(name), len(other_name))
    return f"  {name:<{width}}  {value}\n  {other_name:<{width}}  {other}"


def format_numbers(values: Tensor) -> str:
    return "  ".join(f"{value:8.4f}" for value in values.tolist())


def shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 300 else text[:297] + "..."
