"""Patch embeddings of normalized pixels, and of pixels beyond the patch.

Axes:  b batch   c channels   y x pixels   gy gx rows, columns of patches   p q pixels of a patch   n patches
       i inputs: a patch's pixels, and those of its copies   d width
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.block import LayerNorm
from vitral.nn.patch import PatchEmbedding, Size


class NormedPatches(PatchEmbedding):
    """Layer norm over the pixels of each patch before the projection: its brightness and contrast are lost.

    The first norm of Kumar et al. 2023, "Dual PatchNorm", §3.
    """

    copies = 1

    def __init__(self, img_size: Size = 224, patch_size: Size = 16, in_channels: int = 3, embed_dim: int = 768):
        super().__init__(img_size, patch_size, in_channels, embed_dim)
        height, width = self.patch_size
        self.in_channels = in_channels
        self.patch_norm = LayerNorm(self.copies * in_channels * height * width)
        self.proj = nn.Conv2d(self.copies * in_channels * height * width, embed_dim, kernel_size=1)

    def add_copies(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c2 y x"]:
        """The image that patches are cut from, copies of it along the channels."""
        return images

    def forward(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n d"]:
        self.check(images, self.in_channels)
        height, width = self.patch_size
        patches = rearrange(self.add_copies(images), "b c (gy p) (gx q) -> b gy gx (c p q)", p=height, q=width)
        tokens = self.proj(rearrange(self.patch_norm(patches), "b gy gx i -> b i gy gx"))
        return rearrange(tokens, "b d gy gx -> b (gy gx) d")


class ShiftedPatches(NormedPatches):
    """Normalized patches of the image and of four copies, each shifted by half a patch along a diagonal.

    Lee et al. 2021, "Vision Transformer for Small-Size Datasets", §3.1. A shifted copy is filled with zeros.
    """

    copies = 5

    def add_copies(self, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c2 y x"]:
        down, right = (side // 2 for side in self.patch_size)
        diagonals = [(y, x) for y in (-down, down) for x in (-right, right)]
        return torch.cat([images, *(F.pad(images, (x, -x, y, -y)) for y, x in diagonals)], dim=1)
