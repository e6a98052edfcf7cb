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
from vitral.explain.seen import Seen
from vitral.explain.stream import first_tensor
from vitral.explain.subject import answered
from vitral.explain.tokens import Grid
from vitral.explain.watch import watch


def tokens_and_maps(
    model: nn.Module, images: Tensor
) -> tuple[Tensor, list[tuple[str, Tensor, Grid, int]], Seen | None]:
    """The model's answer; then for each place its name, the tensor, its grid, and its number of tokens before patches.

    Of a model with attention: what enters each block and what leaves the last, and what was seen. Of one without: every
    map (B, D, rows, columns) that a module gave, in the order they came.
    """
    try:
        with watch(model, rows=[0], stream=True) as seen:
            answer = answered(model, images)
    except WatchError as error:
        if "No attention was seen" not in str(error):
            raise
        with feature_maps(model) as maps:
            answer = answered(model, images)
        if not maps:
            raise WatchError(
                f"{type(model).__name__} makes no maps: no attention and no feature map (B, D, rows, columns) was seen."
            ) from None
        return answer, [(name, made, (made.shape[2], made.shape[3]), 0) for name, made in maps], None
    places = []
    for number, tokens in enumerate(seen.stream):
        layer = seen.layers[min(number, len(seen.layers) - 1)]
        grid, prefix = layer.tokens.grid, len(layer.tokens.prefix)
        name = f"entering {layer.name}" if number < len(seen.layers) else "leaving the last block"
        held = tokens.shape[1] if tokens.ndim == 3 else tokens.shape[1] * tokens.shape[2]
        if held == prefix + grid[0] * grid[1]:
            places.append((name, tokens, grid, prefix))
    return answer, places, seen


@contextmanager
def feature_maps(model: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """Every map that a module of the model gives inside the block: (B, D, rows, columns), more than one place."""
    made: list[tuple[str, Tensor]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            tensor = first_tensor(output)
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
        return tokens if seen is None else rearrange(tokens, "b gy gx d -> b d gy gx")
    return rearrange(tokens[:, prefix:], "b (gy gx) d -> b d gy gx", gy=grid[0])


def check_patch(patch: tuple[int, int], grid: Grid) -> tuple[int, int]:
    """The patch's row and column. Raises `UsageError` if there is none."""
    if not isinstance(patch, tuple | list) or len(patch) != 2 or not all(isinstance(place, int) for place in patch):
        raise UsageError(f"{patch!r} is no patch: it takes (row, column).")
    if not (0 <= patch[0] < grid[0] and 0 <= patch[1] < grid[1]):
        raise UsageError(f"There is no patch at row {patch[0]}, column {patch[1]} of {grid[0]} x {grid[1]}.")
    return patch[0], patch[1]


@torch.no_grad()
def grid_of(model: nn.Module, images: Tensor, asked: Grid | None = None) -> Grid:
    """Rows and columns on which a model is explained: those asked for, or of its last attention or feature map.

    Raises `ShapeError` if the images do not divide into them, `UsageError` for what is no grid.
    """
    own = getattr(model, "grid", None) if asked is None else asked
    grid = own if own is not None else tokens_and_maps(model, images[:1])[1][-1][2]
    if len(grid) != 2 or not all(isinstance(side, int) and side > 0 for side in grid):
        raise UsageError(f"grid={grid} is no grid: it takes (rows, columns), each at least 1.")
    height, width = images.shape[-2:]
    if height % grid[0] or width % grid[1]:
        raise ShapeError(
            f"Images of {height} x {width} pixels do not divide into {grid[0]} x {grid[1]} places. "
            "Say a grid that does: grid=(rows, columns)."
        )
    return grid[0], grid[1]
