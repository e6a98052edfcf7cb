"""`attention`: what one token attends to, layer by layer and head by head (Dosovitskiy et al. 2021, §4.5, for CLS).

It shows where a token reads, not what the model's answer depends on: it is the same for every class.

Axes:  b images   l layers   h heads   gy gx rows, columns of patches
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError, WatchError
from vitral.base.modes import evaluating
from vitral.explain.calls import relative
from vitral.explain.maps import Maps
from vitral.explain.watch import TOLERANCE, watch


@torch.no_grad()
def attention(
    model: nn.Module,
    images: Float[Tensor, "b c y x"],
    target: int | None = None,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    query: int = 0,
) -> Maps:
    """G · A[query, patch] / Σ over patches of A[query, ·], with G patches: 1 where a patch gets as much as the others.

    `images` are as the model takes them; `target` is ignored, since attention knows no class; `query` is a token's
    index, 0 being CLS. Raises `UsageError` for a layer, head or token that does not exist, `WatchError` if no attention
    is seen or what is seen cannot be verified.
    """
    with evaluating(model):
        plain = model(images)
        with watch(model, rows=[query]) as seen:
            watched = model(images)
    if not (difference := relative(watched, plain)) <= TOLERANCE[plain.dtype]:
        raise WatchError(
            f"The model's output changed by {difference:.1e} of its largest value while it was watched, "
            "so no map is given."
        )

    chosen = [seen.layers[index] for index in pick(layers, len(seen.layers), "layer")]
    if len({layer.seen.shape for layer in chosen}) > 1:
        sizes = ", ".join(f"{layer.name} {layer.seen.shape[1]} and {layer.seen.shape[-1]}" for layer in chosen)
        raise UsageError(
            f"The layers have different numbers of heads and tokens ({sizes}), so no figure holds them all. "
            "Choose some that are alike: layers=[...]."
        )
    some_heads = pick(heads, chosen[0].seen.shape[1], "head")
    prefix = chosen[0].num_prefix_tokens
    rows, columns = grid_of(model, chosen[0].num_tokens - prefix)
    weights = torch.stack([layer.rows([query])[:, some_heads, 0] for layer in chosen], dim=1).float()
    patches = weights[..., prefix:]
    relative_to_uniform = patches * patches.shape[-1] / patches.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    who = "CLS" if query == 0 and prefix else chosen[0].roles[query].capitalize()
    return Maps(
        method="attention",
        explained=f"Shown is where {who} reads, not what the answer depends on; it is the same for every class.",
        values=rearrange(relative_to_uniform, "b l h (gy gx) -> b l h gy gx", gy=rows, gx=columns).cpu().numpy(),
        prefix_mass=weights[..., :prefix].sum(dim=-1).cpu().numpy(),
        pixels=shown(model, images),
        layers=tuple(layer.name for layer in chosen),
        heads=tuple(some_heads),
        residual=max(layer.residual for layer in chosen),
    )


def pick(chosen: Sequence[int] | None, count: int, what: str) -> list[int]:
    """The indices asked for, or all; negative ones count from the end."""
    wanted = range(count) if chosen is None else chosen
    if not len(wanted):
        raise UsageError(f"No {what} was chosen: the model has {count}, 0 to {count - 1}.")
    if wrong := [index for index in wanted if not -count <= index < count]:
        raise UsageError(f"There is no {what} {', '.join(map(str, wrong))}: the model has {count}, 0 to {count - 1}.")
    return [index % count for index in wanted]


def grid_of(model: nn.Module, patches: int) -> tuple[int, int]:
    """Rows and columns: the model's own `grid`, or a square."""
    rows, columns = getattr(model, "grid", (math.isqrt(patches),) * 2)
    if rows * columns != patches:
        raise WatchError(
            f"{patches} patches are no square grid. Give the model a `grid` = (rows, columns) and `num_prefix_tokens`."
        )
    return rows, columns


def shown(model: nn.Module, images: Float[Tensor, "b c y x"]) -> np.ndarray:
    """The pixels that the model saw, back in 0..255; without a `preprocessing`, from least to largest."""
    if (preprocessing := getattr(model, "preprocessing", None)) is None:
        scaled = (images - images.min()) / (images.max() - images.min()).clamp_min(1e-12)
    else:
        mean, std = (
            torch.tensor(value, device=images.device)[:, None, None]
            for value in (preprocessing.mean, preprocessing.std)
        )
        scaled = images * std + mean
    pixels = (scaled[:, :3].expand(-1, 3, -1, -1) * 255).round().clamp(0, 255).to(torch.uint8)
    return rearrange(pixels, "b c y x -> b y x c").cpu().numpy()
