"""The feature maps that a model makes of an image: the patches between the blocks of a ViT, the maps of a CNN.

Axes:  b images   n tokens   d width   gy gx rows, columns
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError, WatchError
from vitral.recording.indices import Grid
from vitral.recording.layers import Recording
from vitral.recording.stream import first_tensor


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
def module_maps(model: nn.Module) -> Iterator[list[FeatureMap]]:
    """Every map (B, D, rows, columns) of more than one place that a module of the model returns inside the block.

    The results of linear layers and of norms over the last axis are left out: their width stands there.
    """
    found: list[FeatureMap] = []

    def record(name: str) -> Any:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            tensor = None if isinstance(module, nn.Linear | nn.LayerNorm) else first_tensor(output)
            if tensor is not None and tensor.ndim == 4 and min(tensor.shape[2:]) > 1:
                found.append(FeatureMap(name, tensor, (tensor.shape[2], tensor.shape[3])))

        return hook

    hooks = [module.register_forward_hook(record(name)) for name, module in model.named_modules() if name]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
