"""Station 2: the patch embedding is a convolution.

    patches (n, c p p)  x  weight (c p p, d)  + bias   =   tokens (n, d)

    is the same as

    image (c, y, x)  *  kernel (d, c, p, p), moved by p pixels at a time   =   feature map (d, gy, gx)

The same linear layer turns every patch into a token of `embed_dim` numbers: patches times weights, a matrix product. A
convolution whose stride equals its kernel size visits every patch once and multiplies it by the same numbers. So it is
that matrix product, and its kernel is the matrix, reshaped.

You write both. The module keeps its convolution as `self.proj` and returns tokens in the order of station 1: the
feature map (b, d, gy, gx) must become a sequence (b, n, d). `x.flatten(start)` joins all axes from `start` on.

Before you write: patches of 16 x 16 pixels with 3 channels become tokens of 768 numbers. Which has more numbers?
    a  the token        b  the patch        c  both have the same
"""

from torch import Tensor, nn

from vitral.lab.solutions.patchify import patchify

prediction = ""  # "a", "b" or "c"


def by_matrix(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Images (b, c, y, x), a kernel (d, c, p, p) and a bias (d,) -> tokens (b, n, d), with your `patchify`."""
    # Yours: patches times the kernel as a matrix, plus the bias.
    return patchify(images, weight.shape[-1]) @ weight.flatten(1).T + bias


class PatchEmbedding(nn.Module):
    """Images (b, in_channels, img_size, img_size) -> tokens (b, n, embed_dim)."""

    def __init__(self, img_size: int, patch_size: int, in_channels: int, embed_dim: int):
        super().__init__()
        # Yours: self.grid, a tuple of rows and columns of patches; self.proj, the nn.Conv2d.
        self.grid = (img_size // patch_size, img_size // patch_size)
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        # Yours: convolve, then turn the feature map into a sequence.
        return self.proj(images).flatten(2).transpose(1, 2)
