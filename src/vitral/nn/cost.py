"""The cost of a model by formula: multiply-adds, attention matrices, and the activations that training saves.

    linear layers of a block     N · (4 D² + 2 D M)          attention      2 N² D          equal at N = 2 D + M

Axes:  N tokens   D width   M hidden width of the MLP   n tokens of a window   h heads   K classes
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import singledispatch
from math import ceil, prod
from typing import Any

from torch import nn

from vitral.nn.attention import Attention
from vitral.nn.family.mixer import DepthwiseMixing, NoMixing, WindowMixing
from vitral.nn.family.mlp import SwiGLU
from vitral.nn.family.pool import AttentionPool
from vitral.nn.family.swin import SwinTransformer
from vitral.nn.family.window import ShiftedWindows
from vitral.nn.high_resolution.windows import Windows
from vitral.nn.mlp import MLP
from vitral.nn.vit import VisionTransformer

Grid = tuple[int, int]


@dataclass(frozen=True)
class Mixing:
    """Cost of one mixer: multiply-adds of linear layers and of attention, and the attention matrices."""

    linear: int
    attention: int = 0
    matrices: int = 0  # one per head and window, or one per head for all windows of a plain ViT
    entries: int = 0  # per matrix


@dataclass(frozen=True)
class BlockCost:
    """One block for one image; `kept` counts the numbers saved for the backward pass, with a fused kernel."""

    name: str
    tokens: int
    width: int
    mixing: Mixing
    mlp: int
    kept: int

    @property
    def weights(self) -> int:
        """Entries of all attention matrices, which a fused kernel never forms."""
        return self.mixing.matrices * self.mixing.entries

    @property
    def macs(self) -> int:
        return self.mixing.linear + self.mixing.attention + self.mlp


@dataclass(frozen=True)
class Cost:
    """A model for one image; `outside` counts the multiply-adds of patch embedding, merging, pool and head."""

    parameters: int
    blocks: tuple[BlockCost, ...]
    outside: int

    @property
    def macs(self) -> int:
        return self.outside + sum(block.macs for block in self.blocks)


@singledispatch
def mixing_of(mixer: nn.Module, grid: Grid, prefix: int, width: int) -> Mixing:
    """Raises `TypeError` for a mixer without a formula here."""
    raise TypeError(f"{type(mixer).__name__} has no cost formula.")


@mixing_of.register
def _(mixer: Attention, grid: Grid, prefix: int, width: int) -> Mixing:
    n, windows = prefix + prod(grid), mixer.attend
    entries = n * n
    if isinstance(windows, Windows) and not (windows := replace(windows, grid=grid)).is_whole:
        size = prod(windows.window)
        count = prod(ceil(side / own) for side, own in zip(grid, windows.window))
        entries = count * size * (prefix + size) + prefix * n
    return Mixing(4 * n * width**2, 2 * entries * width, mixer.num_heads, entries)


@mixing_of.register
def _(mixer: ShiftedWindows, grid: Grid, prefix: int, width: int) -> Mixing:
    window = [min(mixer.window_size, side) for side in grid]
    count = prod(ceil(side / own) for side, own in zip(grid, window))
    n = prod(window)
    return Mixing(4 * count * n * width**2, 2 * count * n * n * width, mixer.num_heads * count, n * n)


@mixing_of.register
def _(mixer: WindowMixing, grid: Grid, prefix: int, width: int) -> Mixing:
    return mixing_of(mixer.windows, grid, prefix, width)


@mixing_of.register
def _(mixer: DepthwiseMixing, grid: Grid, prefix: int, width: int) -> Mixing:
    return Mixing(prod(grid) * (width * mixer.kernel_size**2 + width**2))


@mixing_of.register
def _(mixer: NoMixing, grid: Grid, prefix: int, width: int) -> Mixing:
    return Mixing(0)


def mlp_of(mlp: nn.Module, tokens: int, width: int) -> int:
    """Multiply-adds of an MLP or a gated one."""
    assert isinstance(mlp, MLP | SwiGLU)
    return tokens * (mlp.fc1.weight.numel() + mlp.fc2.weight.numel())


def kept_of(block: Any, tokens: int, width: int, heads: int) -> int:
    """Numbers that a block's backward pass needs: inputs of norms, linear layers and GELU; q, k, v and their result."""
    hidden = block.mlp.fc2.in_features
    norms = 2 * (tokens * width + 2 * tokens)
    attention = 5 * tokens * width + heads * tokens
    return norms + attention + tokens * width + 2 * tokens * hidden


def blocks_of(model: nn.Module, grid: Grid) -> Iterator[BlockCost]:
    blocks: Any
    if isinstance(model, VisionTransformer):
        prefix, width = model.num_prefix_tokens, model.config["embed_dim"]
        n, blocks = prefix + prod(grid), model.blocks
        for number, block in enumerate(blocks):
            mixing = mixing_of(block.attn, grid, prefix, width)
            kept = kept_of(block, n, width, getattr(block.attn, "num_heads", 0))
            yield BlockCost(f"blocks.{number}", n, width, mixing, mlp_of(block.mlp, n, width), kept)
    elif isinstance(model, SwinTransformer):
        blocks = model.layers
        for stage, layer in enumerate(blocks):
            grid = (ceil(grid[0] / 2), ceil(grid[1] / 2)) if stage else grid
            width, n = model.config["embed_dim"] << stage, prod(grid)
            for number, block in enumerate(layer.blocks):
                mixing = mixing_of(block.attn, grid, 0, width)
                kept = kept_of(block, n, width, block.attn.num_heads)
                yield BlockCost(f"layers.{stage}.blocks.{number}", n, width, mixing, mlp_of(block.mlp, n, width), kept)


def cost(model: VisionTransformer | SwinTransformer) -> Cost:
    """The cost for one image of the model's own size; the model may be on the meta device, without values."""
    height, width = model.preprocessing.size
    config = model.config
    patch, classes = config["patch_size"], config["num_classes"]
    grid = (ceil(height / patch[0]), ceil(width / patch[1]))
    blocks = tuple(blocks_of(model, grid))
    outside = prod(grid) * config["embed_dim"] * config["in_channels"] * prod(patch)
    if isinstance(model, SwinTransformer):
        merged = [block for block in blocks if block.name.endswith("blocks.0")][1:]
        outside += sum(2 * block.tokens * block.width**2 for block in merged)  # 4 of half the width become one
        outside += blocks[-1].width * classes
    else:
        heads = [part for part in model.head.modules() if isinstance(part, nn.Linear)]
        outside += sum(part.weight.numel() for part in heads) + pool_of(model.pool, blocks[-1].tokens)
    return Cost(sum(parameter.numel() for parameter in model.parameters()), blocks, outside)


def pool_of(pool: nn.Module, tokens: int) -> int:
    if not isinstance(pool, AttentionPool):
        return 0
    d = pool.proj.in_features
    return (2 + 2 * tokens) * d * d + 2 * tokens * d + mlp_of(pool.mlp, 1, d)
