"""PatchEmbedding flattens the feature map column by column: the tokens are in transposed order.
Shows for every image of more than one patch per side; by_matrix is right."""

from patchify import patchify
from torch import Tensor, nn


def by_matrix(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Images (b, c, y, x), a kernel (d, c, p, p) and a bias (d,) -> tokens (b, n, d), by your `patchify`."""
    patches = patchify(images, weight.shape[2])
    kernel = weight.reshape(weight.shape[0], -1)
    return patches @ kernel.transpose(0, 1) + bias


class PatchEmbedding(nn.Module):
    """Images (b, in_channels, img_size, img_size) -> tokens (b, n, embed_dim)."""

    def __init__(self, img_size: int, patch_size: int, in_channels: int, embed_dim: int):
        super().__init__()
        self.grid = (img_size // patch_size,) * 2
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        out = self.proj(images)  # b, d, y, x
        out = out.permute(0, 3, 2, 1)  # channels last
        return out.flatten(1, 2)
