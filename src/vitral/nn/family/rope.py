"""Rotary positions: rotate queries and keys, so that their product depends on how far apart their patches are.

Su et al. 2021, "RoFormer", §3.2; along both axes of an image, Heo et al. 2024, §3; this form is DINOv3's (2025, §3.2).

Axes:  b batch   h heads   n tokens   g patches   d width   e width of one head   f frequencies (e / 4)
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.nn.attention import Attention, Heads
from vitral.nn.family.mixer import QKNormAttention


def angles(grid: tuple[int, int], head_dim: int, base: float) -> Float[Tensor, "g e"]:
    """2π · coordinate · base^-(4i/e) for rows, then columns, with coordinates of centres from -1 to 1; then again."""
    frequency = 1 / base ** torch.arange(0, 1, 4 / head_dim)
    centres = [2 * torch.arange(0.5, side) / side - 1 for side in grid]
    coordinates = torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1).flatten(0, 1)
    return (2 * math.pi * coordinates[:, :, None] * frequency).flatten(1).tile(2)


class RotaryAttention(Attention):
    """Attention that rotates the queries and keys of patches; the tokens before the patches are not rotated.

    Coordinate i of a head rotates with coordinate i + e/2. The angle between a query and a key then depends only on
    the rows and columns between them. Raises `ConfigError` unless the width of a head is a multiple of 4.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, embed_dim: int, num_heads: int, qkv_bias: bool = True, base: float = 100.0):
        super().__init__(embed_dim, num_heads, qkv_bias)
        self.base = base
        if (head_dim := embed_dim // num_heads) % 4:
            raise ConfigError(
                f"Rotary positions by row and column need heads whose width is a multiple of 4, not {head_dim}."
            )

    def set_grid(self, grid: tuple[int, int], num_prefix_tokens: int) -> None:
        patches = angles(grid, self.proj.in_features // self.num_heads, self.base)
        prefix = (0, 0, num_prefix_tokens, 0)  # angles of zero
        self.register_buffer("cos", F.pad(patches.cos(), prefix, value=1.0), persistent=False)
        self.register_buffer("sin", F.pad(patches.sin(), prefix), persistent=False)

    def rotate(self, x: Heads) -> Heads:
        first, second = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat([-second, first], dim=-1) * self.sin

    def project(self, x: Float[Tensor, "b n d"]) -> tuple[Heads, Heads, Heads]:
        q, k, v = super().project(x)
        return self.rotate(q), self.rotate(k), v


class QKNormRotary(RotaryAttention, QKNormAttention):
    """Normalizes queries and keys, then rotates them: `project` is called from right to left along the base classes.

    A rotation leaves lengths as they are, so the product of both stays bounded (Dehghani et al. 2023, §2).
    """
