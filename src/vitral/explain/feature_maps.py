"""The feature maps that a model makes of an image: the patches between the blocks of a ViT, the maps of a CNN.

Axes:  b images   n tokens   d width   gy gx rows, columns
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError, WatchError
from vitral.base.modes import evaluating
from vitral.recording.forward import run_model
from vitral.recording.indices import Grid
from vitral.recording.layers import Recording
from vitral.recording.stream import first_tensor

DIFFERENCE = 0.1  # of the whole way from one image to another, between the halves of a map


@dataclass(frozen=True)
class FeatureMap:
    """Features at one place in a model, named `where`: tokens (B, N, D), or a map with its width first or last."""

    where: str
    tensor: Tensor
    grid: Grid
    patch_tokens: tuple[int, ...] = ()  # the token of each patch, along rows
    width_last: bool = False

    @property
    def patches(self) -> Float[Tensor, "b d gy gx"]:
        """The features of the patches as a map, whatever the layout of the tensor."""
        return self.as_map(self.tensor)

    def as_map(self, tensor: Tensor) -> Float[Tensor, "b d gy gx"]:
        """A tensor of this one's layout, such as its gradient, as a map of patches."""
        if tensor.ndim == 4:
            return rearrange(tensor, "b gy gx d -> b d gy gx") if self.width_last else tensor
        return rearrange(tensor[:, list(self.patch_tokens)], "b (gy gx) d -> b d gy gx", gy=self.grid[0])


def stream_maps(recording: Recording) -> Iterator[FeatureMap]:
    """What enters each block and leaves the last, except where the places of the patches are not known."""
    for number, tensor in zip(recording.next_layers, recording.stream):
        layer = recording.layers[min(number, len(recording.layers) - 1)]
        try:
            grid, tokens = layer.tokens.grid, layer.tokens
        except (UsageError, WatchError):
            continue  # the tokens of this layer are not known; those of others may be
        where = f"entering {layer.name}" if number < len(recording.layers) else "leaving the last block"
        patches = grid[0] * grid[1]
        if tensor.ndim == 4 and grid in (tuple(tensor.shape[1:3]), tuple(tensor.shape[2:])):
            yield FeatureMap(where, tensor, grid, width_last=tuple(tensor.shape[1:3]) == grid)
        elif tensor.ndim == 3 and tensor.shape[1] == patches + len(tokens.prefix):
            yield FeatureMap(where, tensor, grid, tokens.patch_tokens)
        elif tensor.ndim == 3 and tensor.shape[1] == patches:  # without the tokens that are no patches
            ranks = sorted(tokens.patch_tokens)
            yield FeatureMap(where, tensor, grid, tuple(ranks.index(token) for token in tokens.patch_tokens))


@contextmanager
def module_maps(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Iterator[list[FeatureMap]]:
    """Every map of more than one place that a module of the model returns inside the block.

    What is a map, and where its width stands, is measured (`width_axes`): a matrix of attention has four axes, too.
    """
    found: list[FeatureMap] = []
    known = width_axes(model, images)

    def record(name: str, number: int, tensor: Tensor) -> None:
        width_last = known.get((name, number))
        if width_last is not None:
            rows, columns = tensor.shape[1:3] if width_last else tensor.shape[2:]
            found.append(FeatureMap(name, tensor, (rows, columns), width_last=width_last))

    with each_map(model, record):
        yield found


@contextmanager
def each_map(model: nn.Module, record: Callable[[str, int, Tensor], None]) -> Iterator[None]:
    """Inside it, `record(name, number, tensor)` gets each tensor of four axes that a module returns.

    `number` counts the times that the module has run.
    """
    counts: Counter[str] = Counter()

    def hook(module: nn.Module, args: tuple, output: Any, name: str) -> None:
        tensor = first_tensor(output)
        if tensor is not None and tensor.ndim == 4 and tensor.is_floating_point():
            counts[name] += 1
            record(name, counts[name], tensor)

    hooks = [module.register_forward_hook(partial(hook, name=name)) for name, module in model.named_modules() if name]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


@torch.no_grad()
def width_axes(model: nn.Module, images: Float[Tensor, "b c y x"]) -> dict[tuple[str, int], bool]:
    """Which results of modules are maps of the image, by name and number: whether the width comes last, or first.

    The model runs on random images A and B, and on A with the upper, then the left half of B. In a map the upper rows
    move towards B's with the upper half, the left columns with the left half. Nothing else does both.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, *images.shape[1:], generator=generator).to(images)
    upper, left = a.clone(), a.clone()
    upper[:, : a.shape[1] // 2] = b[:, : a.shape[1] // 2]
    left[..., : a.shape[2] // 2] = b[..., : a.shape[2] // 2]
    found: dict[tuple[str, int], bool] = {}

    def record(name: str, number: int, tensor: Tensor) -> None:
        for width_last in (False, True):
            maps = (tensor.movedim(-1, 1) if width_last else tensor).double()
            if len(maps) != 4 or min(maps.shape[2:]) < 2:
                continue
            start, whole, *halves = maps[0], maps[1] - maps[0], maps[2], maps[3]
            moved = [((half - start) * whole).sum(0) / whole.square().sum(0).clamp_min(1e-30) for half in halves]
            if halves_differ(moved[0], 0) and halves_differ(moved[1], 1):
                found[name, number] = width_last
                return

    with evaluating(model), each_map(model, record):
        run_model(model, torch.stack([a, b, upper, left]))
    return found


def halves_differ(moved: Float[Tensor, "y x"], axis: int) -> bool:
    """Whether the first half along an axis moved clearly more than the second, and more than along the other axis."""
    along, across = (
        moved.narrow(side, 0, moved.shape[side] // 2).mean()
        - moved.narrow(side, (moved.shape[side] + 1) // 2, moved.shape[side] // 2).mean()
        for side in (axis, 1 - axis)
    )
    return bool(along > DIFFERENCE and along > 2 * across.abs())
