"""Other ways for tokens to meet, or not to: a family that shares everything else with the ViT.

Axes:  b batch   h heads   n tokens   p prefix tokens   y x rows, columns of patches   d width   e width of one head
"""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.nn.attention import Attention
from vitral.nn.family.window import ShiftedWindows


class QKNormAttention(Attention):
    """Attention between normalised queries and keys (Dehghani et al. 2023, "Scaling ViT to 22B", §2).

    Logits can then neither start too flat nor grow too sharp, whatever the learning rate.
    """

    def __init__(self, embed_dim: int, num_heads: int, qkv_bias: bool = True):
        super().__init__(embed_dim, num_heads, qkv_bias)
        self.q_norm = nn.LayerNorm(embed_dim // num_heads, eps=1e-6)
        self.k_norm = nn.LayerNorm(embed_dim // num_heads, eps=1e-6)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        x = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        return self.proj(rearrange(x, "b h n e -> b n (h e)"))


class NoMixing(nn.Module):
    """Tokens never meet: with a mean pool, the model is a bag of patches. The baseline that attention must beat."""

    def __init__(self, embed_dim: int, num_heads: int):
        super().__init__()

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return torch.zeros_like(x)


class MapMixing(nn.Module):
    """Tokens meet on the map where their patches stand; there must be none before the patches.

    `mix` takes and gives a map (B, rows, columns, D).
    """

    def place(self, grid: tuple[int, int], num_prefix_tokens: int) -> None:
        if num_prefix_tokens:
            raise ConfigError(
                f"{type(self).__name__} mixes patches on their map, where the {num_prefix_tokens} tokens before them "
                "have no place: make the model with tokens={} and a pool of patches, such as MeanPool."
            )
        self.grid = grid

    def mix(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y x d"]:
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        x = self.mix(rearrange(x, "b (y x) d -> b y x d", y=self.grid[0]))
        return rearrange(x, "b y x d -> b (y x) d")


class DepthwiseMixing(MapMixing):
    """A convolution of each channel, then a linear map of all: a CNN's way to meet (as ConvNeXt, Liu et al. 2022, §2).

    Zeros beyond the edges; `CircularMixing` wraps around instead, and so knows no edge at all.
    """

    kernel_size = 3
    padding_mode: Literal["zeros", "circular"] = "zeros"

    def __init__(self, embed_dim: int, num_heads: int):
        super().__init__()
        self.conv = nn.Conv2d(
            embed_dim,
            embed_dim,
            self.kernel_size,
            padding=self.kernel_size // 2,
            groups=embed_dim,
            padding_mode=self.padding_mode,
        )
        self.proj = nn.Linear(embed_dim, embed_dim)

    def mix(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y x d"]:
        x = self.conv(rearrange(x, "b y x d -> b d y x"))
        return self.proj(rearrange(x, "b d y x -> b y x d"))


class DepthwiseMixing5(DepthwiseMixing):
    kernel_size = 5


class DepthwiseMixing7(DepthwiseMixing):
    kernel_size = 7


class CircularMixing(DepthwiseMixing):
    padding_mode: Literal["zeros", "circular"] = "circular"


class WindowMixing(MapMixing):
    """Attention within windows of 3 x 3 patches that do not shift, with a bias for each distance."""

    window_size, shift = 3, 0

    def __init__(self, embed_dim: int, num_heads: int):
        super().__init__()
        self.windows = ShiftedWindows(embed_dim, num_heads, self.window_size, self.shift)

    def mix(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y x d"]:
        return self.windows(x)
