"""Resample a table of positions to another grid, as published code does.

Libraries do it by different functions, so a model records the name of its own.

Axes:  n positions   g patches   d width   y x rows, columns
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.base.lookup import nearest

Grid = tuple[int, int]


def interpolate(**how: Any) -> Callable[[Tensor, Grid], Tensor]:
    return lambda table, grid: F.interpolate(table, size=grid, **how)


def dinov2(table: Float[Tensor, "1 d y x"], grid: Grid) -> Float[Tensor, "1 d y2 x2"]:
    """By a factor for a tenth of a patch too many, which shifts the result a little."""
    factors = tuple((new + 0.1) / old for new, old in zip(grid, table.shape[2:]))
    return F.interpolate(table, scale_factor=factors, mode="bicubic")


WAYS: dict[str, Callable[[Tensor, Grid], Tensor]] = {
    "timm": interpolate(mode="bicubic", antialias=True),
    "hugging_face": interpolate(mode="bicubic"),  # and DeiT's and MAE's own code
    "torchvision": interpolate(mode="bicubic", align_corners=True),
    "google": interpolate(mode="bilinear", align_corners=True),  # SciPy's zoom of order 1
    "flexivit": interpolate(mode="bilinear", antialias=True),
    "dinov2": dinov2,
}


def resample_positions(
    table: Float[Tensor, "1 n d"], old: Grid, new: Grid, how: str = "timm", always: bool = False
) -> Float[Tensor, "1 m d"]:
    """The table with its patches' rows resampled to the `new` grid; the rows before them stay.

    `how` is one of `WAYS`; computed in single precision at least. A table for the same grid is returned as it is,
    unless `always`: then a traced model has no branch on the size. Raises `ConfigError` for another `how`, or a table
    that is too small for the old grid.
    """
    if how not in WAYS:
        raise ConfigError(f"Unknown resampling {how!r}.{nearest(how, WAYS)} Supported: {', '.join(WAYS)}.")
    prefix = table.shape[1] - old[0] * old[1]  # CLS and registers have rows of their own, and no place to resample
    if prefix < 0:
        raise ConfigError(f"A table of {table.shape[1]} positions is too small for a grid of {old[0]} x {old[1]}.")
    if not always and old == new:
        return table
    before, patches = table[:, :prefix], table[:, prefix:]
    # Bicubic weights rounded to 8 bits of bfloat16 would move every position.
    precise = torch.promote_types(table.dtype, torch.float32)
    patches = rearrange(patches.to(precise), "1 (y x) d -> 1 d y x", y=old[0])
    rows = rearrange(WAYS[how](patches, new), "1 d y x -> 1 (y x) d")
    return torch.cat([before, rows.to(table.dtype)], dim=1)
