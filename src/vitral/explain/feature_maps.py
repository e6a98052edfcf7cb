"""The maps that a model makes of an image on its way: tokens after each block of a ViT, feature maps of a CNN.

Axes:  b images   n tokens   d width   gy gx rows, columns
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ShapeError, UsageError, WatchError
from vitral.recording.forward import answered, check_images
from vitral.recording.indices import is_pair
from vitral.recording.intercept import NothingSeen, watch
from vitral.recording.layers import Seen
from vitral.recording.roles import Grid
from vitral.recording.stream import first_tensor

Place = tuple[str, Tensor, Grid, int]  # its name, the tensor, its grid, and its number of tokens before the patches


def tokens_and_maps(model: nn.Module, images: Tensor) -> tuple[Tensor, list[Place], Seen | None]:
    """The model's answer; then its places, one at least.

    Of a model with attention: what enters each block and what leaves the last, and what was seen. Of one without, or
    whose blocks are not found or pass on nothing in which patches are known: every map (B, D, rows, columns) that a
    module gave, in the order they came. Raises `WatchError` if there is none either.
    """
    try:
        with watch(model, rows=[0], stream=True) as seen:
            answer = answered(model, images)
        if places := list(of_stream(seen)):
            return answer, places, seen
        found = "no block passes on patches whose places are known"
    except NothingSeen:
        found = "no attention"
    with feature_maps(model) as maps:
        answer = answered(model, images)
    if not maps:
        raise WatchError(
            f"{type(model).__name__} makes no maps: {found}, and no feature map (B, D, rows, columns) was seen."
        )
    return answer, [(name, made, (made.shape[2], made.shape[3]), 0) for name, made in maps], None


def of_stream(seen: Seen) -> Iterator[Place]:
    """The places between a model's blocks, but those where the patches are not known."""
    for number, tokens in zip(seen.before, seen.stream):
        layer = seen.layers[min(number, len(seen.layers) - 1)]
        try:
            grid, prefix = layer.tokens.grid, len(layer.tokens.prefix)
        except (UsageError, WatchError):
            continue  # nothing tells what this layer's tokens are, and the others may be told
        name = f"entering {layer.name}" if number < len(seen.layers) else "leaving the last block"
        patches = grid[0] * grid[1]
        if tokens.ndim == 4 and grid in (tuple(tokens.shape[1:3]), tuple(tokens.shape[2:])):
            yield name, tokens, grid, 0
        elif tokens.ndim == 3 and tokens.shape[1] in (patches, prefix + patches):
            yield name, tokens, grid, tokens.shape[1] - patches


@contextmanager
def feature_maps(model: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """Every map that a module of the model gives inside the block: (B, D, rows, columns), more than one place.

    What linear maps and norms over the last axis give has its width there, and is no such map.
    """
    made: list[tuple[str, Tensor]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            tensor = None if isinstance(module, nn.Linear | nn.LayerNorm) else first_tensor(output)
            if tensor is not None and tensor.ndim == 4 and min(tensor.shape[2:]) > 1:
                made.append((name, tensor))

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        yield made
    finally:
        for hook in hooks:
            hook.remove()


def patches_of(tokens: Tensor, grid: Grid, prefix: int, seen: Seen | None) -> Float[Tensor, "b d gy gx"]:
    """The patches of a place as a map, whatever the layout of its tokens."""
    if tokens.ndim == 4:
        last = seen is not None and tuple(tokens.shape[1:3]) == grid
        return rearrange(tokens, "b gy gx d -> b d gy gx") if last else tokens
    return rearrange(tokens[:, prefix:], "b (gy gx) d -> b d gy gx", gy=grid[0])


@torch.no_grad()
def grid_of(model: nn.Module, images: Tensor, asked: Grid | None = None) -> Grid:
    """Rows and columns on which a model is explained: those asked for, or of its last attention or feature map.

    Raises `ShapeError` if the images do not divide into them, `UsageError` for what is no grid.
    """
    check_images(images)
    own = getattr(model, "grid", None) if asked is None else asked
    grid = own if own is not None else tokens_and_maps(model, images[:1])[1][-1][2]
    if not is_pair(grid) or min(grid) < 1:
        raise UsageError(f"grid={grid} is no grid: it takes (rows, columns), each at least 1.")
    grid = int(grid[0]), int(grid[1])
    height, width = images.shape[-2:]
    if height % grid[0] or width % grid[1]:
        raise ShapeError(
            f"Images of {height} x {width} pixels do not divide into {grid[0]} x {grid[1]} places. "
            "Say a grid that does: grid=(rows, columns)."
        )
    return grid
