"""The parts of Swin: patch embedding, patch merging, and stages of blocks with shifted windows.

Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", §3, figure 3.

Axes:  b batch   c channels   y x pixels, or rows and columns of patches   d width
"""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ShapeError
from vitral.nn.block import Block
from vitral.nn.family.window import ShiftedWindows
from vitral.nn.mlp import MLP
from vitral.nn.patch import Size, pair


class MapEmbedding(nn.Module):
    """Patch tokens (B, rows, columns, D), each normalized; an image is padded to whole patches."""

    def __init__(self, patch_size: Size, in_channels: int, embed_dim: int):
        super().__init__()
        self.patch_size = pair(patch_size)
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=self.patch_size, stride=self.patch_size)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b gy gx d"]:
        if images.ndim != 4 or images.shape[1] != self.proj.in_channels:
            raise ShapeError(
                f"The model takes images of shape (batch, {self.proj.in_channels}, height, width), but was given "
                f"{tuple(images.shape)}."
            )
        below, right = (-side % patch for side, patch in zip(images.shape[2:], self.patch_size))
        return self.norm(rearrange(self.proj(F.pad(images, (0, right, 0, below))), "b d y x -> b y x d"))


class PatchMerging(nn.Module):
    """Concatenate 2 x 2 neighbours and project them to twice the width; odd sides are padded."""

    def __init__(self, embed_dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * embed_dim)
        self.reduction = nn.Linear(4 * embed_dim, 2 * embed_dim, bias=False)

    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y2 x2 e"]:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        return self.reduction(self.norm(rearrange(x, "b (y dy) (x dx) d -> b y x (dx dy d)", dy=2, dx=2)))


class Stage(nn.Module):
    """Patch merging if `merge`, then blocks; every second block shifts its windows by half their size."""

    def __init__(self, embed_dim: int, depth: int, num_heads: int, window_size: int, mlp_ratio: float, merge: bool):
        super().__init__()
        self.downsample = PatchMerging(embed_dim // 2) if merge else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(
                ShiftedWindows(embed_dim, num_heads, window_size, shift=number % 2 * (window_size // 2)),
                MLP(embed_dim, int(embed_dim * mlp_ratio)),
                embed_dim,
                nn.LayerNorm,
            )
            for number in range(depth)
        )

    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y2 x2 e"]:
        x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x
