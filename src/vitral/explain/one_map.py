"""`Maps` of a method that gives one map an image, not one a layer and head.

Axes:  b images   g patches   gy gx rows, columns of patches
"""

from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.explain.maps import Maps
from vitral.explain.methods.attention import times_uniform
from vitral.explain.pixels import pixels_of
from vitral.recording.roles import Grid


def one_map(
    method: str,
    explained: str,
    model: nn.Module,
    images: Tensor,
    values: Float[Tensor, "b g"] | Float[Tensor, "b gy gx"],
    grid: Grid,
    *,
    layers: str = "all",
    prefix_mass: Float[Tensor, " b"] | None = None,
    residual: float | None = None,
    unit: str = "times uniform",
    sign: Literal["positive", "signed"] = "positive",
    targets: Sequence[int] = (),
) -> Maps:
    """Values for each patch as `Maps`; shares of something are scaled to times uniform, other units are kept."""
    flat = values.detach().float().flatten(1)
    flat = times_uniform(flat) if unit == "times uniform" else flat
    mass = torch.zeros(len(flat)) if prefix_mass is None else prefix_mass.detach().float().cpu()
    return Maps(
        method=method,
        explained=explained,
        values=rearrange(flat, "b (gy gx) -> b 1 1 gy gx", gy=grid[0]).cpu().numpy(),
        prefix_mass=mass[:, None, None].numpy(),
        pixels=pixels_of(model, images),
        layers=(layers,),
        heads=(0,),
        residual=residual,
        unit=unit,
        sign=sign,
        targets=tuple(targets),
        class_names=tuple(class_name(model, index) for index in targets),
    )


def class_name(model: nn.Module, index: int) -> str:
    """What the model calls a class, or its number."""
    names = getattr(model, "classes", ())
    return str(names[index]) if isinstance(names, tuple | list) and index < len(names) else f"class {index}"
