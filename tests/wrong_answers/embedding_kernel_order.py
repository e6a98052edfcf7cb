"""In by_matrix the kernel is flattened pixel by pixel (channels last), while the patches are channel by channel.
Shows for more than one channel with patch_size > 1; grey images are right."""

from patchify import patchify
from torch import Tensor, nn

prediction = "b"


def by_matrix(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Images (b, c, y, x), a kernel (d, c, p, p) and a bias (d,) -> tokens (b, n, d), by your `patchify`."""
    d, c, p, _ = weight.shape
    matrix = weight.permute(2, 3, 1, 0).reshape(c * p * p, d)
    return patchify(images, p) @ matrix + bias


class PatchEmbedding(nn.Module):
    """Images (b, in_channels, img_size, img_size) -> tokens (b, n, embed_dim)."""

    def __init__(self, img_size: int, patch_size: int, in_channels: int, embed_dim: int):
        super().__init__()
        per_side = img_size // patch_size
        self.grid = (per_side, per_side)
        self.proj = nn.Conv2d(in_channels, embed_dim, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        fmap = self.proj(images)
        return fmap.permute(0, 2, 3, 1).reshape(fmap.shape[0], -1, fmap.shape[1])
