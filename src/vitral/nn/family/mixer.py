"""Other mixers, or none, for models that share everything else with the ViT.

Axes:  b batch   h heads   n tokens   y x rows, columns of patches   d width   e width of one head
"""

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.nn.attention import Attend, Attention, Heads
from vitral.nn.family.window import ShiftedWindows

Padding = Literal["zeros", "circular"]


class QKNormAttention(Attention):
    """Attention between normalized queries and keys (Dehghani et al. 2023, "Scaling ViT to 22B", §2).

    The logits of the softmax then neither start too flat nor grow too sharp, at any learning rate.
    """

    def __init__(self, embed_dim: int, num_heads: int, qkv_bias: bool = True):
        super().__init__(embed_dim, num_heads, qkv_bias)
        self.q_norm = nn.LayerNorm(embed_dim // num_heads, eps=1e-6)
        self.k_norm = nn.LayerNorm(embed_dim // num_heads, eps=1e-6)

    def project(self, x: Float[Tensor, "b n d"]) -> tuple[Heads, Heads, Heads]:
        q, k, v = super().project(x)
        return self.q_norm(q), self.k_norm(k), v


class NoMixing(nn.Module):
    """Zeros: tokens exchange nothing. With a mean pool, the model is a bag of patches, attention's baseline."""

    def __init__(self, embed_dim: int, num_heads: int):
        super().__init__()

    def forward(self, x: Float[Tensor, "b n d"], attend: Attend | None = None) -> Float[Tensor, "b n d"]:
        return torch.zeros_like(x)


class MapMixing(nn.Module):
    """A mixer on the grid of patches; there must be no tokens before the patches.

    `mix` takes and returns tokens (B, rows, columns, D).
    """

    def set_grid(self, grid: tuple[int, int], num_prefix_tokens: int) -> None:
        if num_prefix_tokens:
            raise ConfigError(
                f"{type(self).__name__} mixes patches on their grid, which cannot hold other tokens "
                f"(num_prefix_tokens={num_prefix_tokens}): create the model with tokens={{}} and a pool of patches, "
                "such as MeanPool."
            )
        self.grid = grid

    def mix(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y x d"]:
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        x = self.mix(rearrange(x, "b (y x) d -> b y x d", y=self.grid[0]))
        return rearrange(x, "b y x d -> b (y x) d")


class DepthwiseMixing(MapMixing):
    """A convolution of each channel, then a linear layer, as in ConvNeXt (Liu et al. 2022, §2).

    `padding_mode` is "zeros" beyond the edges, or "circular": then opposite edges touch, and there is none.
    """

    def __init__(self, embed_dim: int, num_heads: int, kernel_size: int = 3, padding_mode: Padding = "zeros"):
        super().__init__()
        self.kernel_size = kernel_size
        self.conv = nn.Conv2d(
            embed_dim,
            embed_dim,
            kernel_size,
            padding=kernel_size // 2,
            groups=embed_dim,
            padding_mode=padding_mode,
        )
        self.proj = nn.Linear(embed_dim, embed_dim)

    def mix(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y x d"]:
        x = self.conv(rearrange(x, "b y x d -> b d y x"))
        return self.proj(rearrange(x, "b d y x -> b y x d"))


class WindowMixing(MapMixing):
    """Attention in windows of `window_size` x `window_size` patches that do not shift, with a bias per displacement."""

    def __init__(self, embed_dim: int, num_heads: int, window_size: int = 3):
        super().__init__()
        self.windows = ShiftedWindows(embed_dim, num_heads, window_size)

    def mix(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y x d"]:
        return self.windows(x)
