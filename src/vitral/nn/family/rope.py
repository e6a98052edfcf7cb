"""Rotary positions: a query and a key meet at an angle that tells how far apart their patches are.

Su et al. 2021, "RoFormer", §3.2; for images along both axes, Heo et al. 2024, §3; this form is DINOv3's (2025, §3.2).

Axes:  b batch   h heads   n tokens   g patches   d width   e width of one head   f frequencies (e / 4)
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.nn.attention import Attention


def angles(grid: tuple[int, int], head_dim: int, base: float) -> Float[Tensor, "g e"]:
    """2π · place · base^-(4i/e): rows, then columns, places from -1 to 1 at the patches' centres; then again."""
    frequency = 1 / base ** torch.arange(0, 1, 4 / head_dim)
    centres = [2 * torch.arange(0.5, side) / side - 1 for side in grid]
    places = torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1).flatten(0, 1)
    return (2 * math.pi * places[:, :, None] * frequency).flatten(1).tile(2)


class RotaryAttention(Attention):
    """Attention whose patch queries and keys are turned by their place; tokens before the patches are not turned.

    A head's halves are the two coordinates that turn. The angle of a query and a key then depends on nothing but how
    many rows and columns lie between them.
    """

    base = 100.0
    cos: Tensor
    sin: Tensor

    def __init__(self, embed_dim: int, num_heads: int, qkv_bias: bool = True):
        super().__init__(embed_dim, num_heads, qkv_bias)
        if (head_dim := embed_dim // num_heads) % 4:
            raise ConfigError(f"A head of {head_dim} cannot turn along rows and columns: take a multiple of 4.")

    def place(self, grid: tuple[int, int], num_prefix_tokens: int) -> None:
        turned = angles(grid, self.proj.in_features // self.num_heads, self.base)
        still = (num_prefix_tokens, 0)  # an angle of zero
        self.register_buffer("cos", F.pad(turned.cos(), (0, 0, *still), value=1.0), persistent=False)
        self.register_buffer("sin", F.pad(turned.sin(), (0, 0, *still)), persistent=False)

    def turn(self, x: Float[Tensor, "b h n e"]) -> Float[Tensor, "b h n e"]:
        first, second = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat([-second, first], dim=-1) * self.sin

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        x = F.scaled_dot_product_attention(self.turn(q), self.turn(k), v)
        return self.proj(rearrange(x, "b h n e -> b n (h e)"))
