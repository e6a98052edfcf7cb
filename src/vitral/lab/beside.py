"""Two results beside each other, where they first differ, and a picture of where else they do."""

from typing import Any

import torch
from torch import Tensor

from vitral.lab.inspection import ABSOLUTE, RELATIVE

SHOWN = 6  # numbers of a row
DRAWN = (12, 36)  # rows and columns of a picture
FINE = 1e-4  # what is no further apart looks the same in four digits


def beside(one: Any, other: Any, name: str, other_name: str) -> str:
    """A few lines: the place, and the numbers around it."""
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return lines(name, short(one), other_name, short(other))
    if one.shape != other.shape:
        return lines(name, f"shape {tuple(one.shape)}", other_name, f"shape {tuple(other.shape)}")
    one, other = one.detach().double(), other.detach().double()
    if one.ndim == 0:
        return lines(name, f"{float(one):.10g}", other_name, f"{float(other):.10g}")
    apart = ~torch.isclose(one, other, RELATIVE, ABSOLUTE, equal_nan=True)
    first = apart.nonzero()[0].tolist() if apart.any() else [0] * one.ndim
    begin = max(0, min(first[-1] - 1, one.shape[-1] - SHOWN))
    row = (*first[:-1], slice(begin, begin + SHOWN))
    where = f"[{', '.join([*map(str, first[:-1]), f'{begin}:{begin + len(one[row])}'])}]"
    said = f"{int(apart.sum())} of {apart.numel()} numbers differ, the first at [{', '.join(map(str, first))}]"
    if (most := float((one - other).abs().max())) < FINE:
        said += f", by {most:.0e} at most: something small (an eps?) stands elsewhere, or a type was changed on the way"
    both = lines(f"{name}{where}", numbers(one[row]), f"{other_name}{where}", numbers(other[row]))
    return "\n".join(filter(None, (said, both, picture(apart, first))))


def picture(apart: Tensor, first: list[int]) -> str:
    """The last two axes around the first place: which numbers differ, where some agree, since the pattern tells."""
    at = tuple(first[:-2])
    plane = torch.atleast_2d(apart[at])
    top, left = (max(0, min(index - 1, size - most)) for index, size, most in zip([0, *first][-2:], plane.shape, DRAWN))
    plane = plane[top : top + DRAWN[0], left : left + DRAWN[1]]
    if plane.all():
        return ""
    spans = [f"{top}:{top + plane.shape[0]}"] * (apart.ndim > 1) + [f"{left}:{left + plane.shape[1]}"]
    rows = ["    " + " ".join("■" if own else "·" for own in row) for row in plane.tolist()]
    return "\n".join([f"  where they differ (■), [{', '.join([*map(str, at), *spans])}]:", *rows])


def lines(name: str, value: str, other_name: str, other: str) -> str:
    width = max(len(name), len(other_name))
    return f"  {name:<{width}}  {value}\n  {other_name:<{width}}  {other}"


def numbers(values: Tensor) -> str:
    return "  ".join(f"{value:8.4f}" for value in values.tolist())


def short(value: Any) -> str:
    words = str(value)
    return words if len(words) <= 300 else words[:297] + "..."
