"""A table of positions for another grid, by the named ways in which published code resamples it.

Each library has its own, and they are different functions: the name is kept with a model.

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


def by(**how: Any) -> Callable[[Tensor, Grid], Tensor]:
    return lambda maps, grid: F.interpolate(maps, size=grid, **how)


def dinov2(maps: Float[Tensor, "1 d y x"], grid: Grid) -> Float[Tensor, "1 d y2 x2"]:
    """By a factor that is a tenth of a patch too large, which shifts the result a little."""
    factors = tuple((new + 0.1) / old for new, old in zip(grid, maps.shape[2:]))
    return F.interpolate(maps, scale_factor=factors, mode="bicubic")


WAYS: dict[str, Callable[[Tensor, Grid], Tensor]] = {
    "timm": by(mode="bicubic", antialias=True),
    "hugging_face": by(mode="bicubic"),  # DeiT's and MAE's own code too
    "torchvision": by(mode="bicubic", align_corners=True),
    "google": by(mode="bilinear", align_corners=True),  # SciPy's zoom of order 1
    "flexivit": by(mode="bilinear", antialias=True),
    "dinov2": dinov2,
}


def resampled(
    table: Float[Tensor, "1 n d"], old: Grid, new: Grid, how: str = "timm", always: bool = False
) -> Float[Tensor, "1 m d"]:
    """The rows of the patches for a grid of another size; rows before them stay. The same table for the same grid.

    `how` is one of `WAYS`; single precision at least. `always` resamples to the same grid too, where that is the
    identity, so that a traced model does not depend on the size it was traced at. Raises `ConfigError` for another
    name, or a table that is not of the old grid.
    """
    if how not in WAYS:
        raise ConfigError(f"There is no way to resample {how!r}.{nearest(how, WAYS)} Known: {', '.join(WAYS)}.")
    prefix = table.shape[1] - old[0] * old[1]
    if prefix < 0:
        raise ConfigError(f"A table of {table.shape[1]} positions is too small for a grid of {old[0]} x {old[1]}.")
    if not always and old == new:
        return table
    before, patches = table[:, :prefix], table[:, prefix:]
    exact = torch.promote_types(table.dtype, torch.float32)
    maps = rearrange(patches.to(exact), "1 (y x) d -> 1 d y x", y=old[0])
    rows = rearrange(WAYS[how](maps, new), "1 d y x -> 1 (y x) d")
    return torch.cat([before, rows.to(table.dtype)], dim=1)
