"""by_matrix takes the kernel by `.data`, so no gradient reaches `weight`; the numbers are right.
Shows for every input as soon as the gradient of the kernel is asked for."""

import torch.nn.functional as F
from patchify import patchify
from torch import Tensor, nn

prediction = "c"


def by_matrix(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Images (b, c, y, x), a kernel (d, c, p, p) and a bias (d,) -> tokens (b, n, d), by your `patchify`."""
    out_channels, _, size, _ = weight.shape
    lines = patchify(images, size)
    return F.linear(lines, weight.data.view(out_channels, -1), bias)


class PatchEmbedding(nn.Module):
    """Images (b, in_channels, img_size, img_size) -> tokens (b, n, embed_dim)."""

    def __init__(self, img_size: int, patch_size: int, in_channels: int, embed_dim: int):
        super().__init__()
        n = img_size // patch_size
        self.grid = (n, n)
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=(patch_size, patch_size), stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        features = self.proj(images)
        b, d, h, w = features.shape
        return features.view(b, d, h * w).permute(0, 2, 1)
