"""Station 2: the patch embedding is a convolution.

    patches (n, c p p)  x  weight (c p p, d)  + bias   =   tokens (n, d)

    which is the same as

    image (c, y, x)  *  kernel (d, c, p, p), moved by p pixels at a time   =   map (d, gy, gx)

Every patch is mapped to `embed_dim` numbers, all by the same linear map: written as a matrix product, patches times
weights. A convolution whose stride is as large as its kernel visits every patch once and multiplies it by the same
numbers: it is that matrix product, and its kernel is the matrix, reshaped.

You write both. The module keeps its convolution as `self.proj`, and gives tokens, patch by patch in the order of
station 1: the map (b, d, gy, gx) must become a sequence (b, n, d). `x.flatten(start)` joins all axes from `start` on.

Before you write: patches of 16 x 16 pixels with 3 colours become tokens of 768 numbers. Counted in
numbers, how large is a patch beside its token?
    a  smaller        b  larger        c  as large
"""

from patchify import patchify
from torch import Tensor, nn

prediction = "c"  # "a", "b" or "c"


def by_matrix(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Images (b, c, y, x), a kernel (d, c, p, p) and a bias (d,) -> tokens (b, n, d), by your `patchify`."""
    p = weight.shape[-1]
    kernel = weight.flatten(1).T  # (c p p, d), rows in the order in which patchify writes a patch
    return patchify(images, p) @ kernel + bias


class PatchEmbedding(nn.Module):
    """Images (b, in_channels, img_size, img_size) -> tokens (b, n, embed_dim)."""

    def __init__(self, img_size: int, patch_size: int, in_channels: int, embed_dim: int):
        super().__init__()
        side = img_size // patch_size
        self.grid = (side, side)
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        x = self.proj(images)  # (b, d, gy, gx)
        x = x.flatten(2)  # (b, d, n)
        return x.transpose(1, 2)  # (b, n, d)
