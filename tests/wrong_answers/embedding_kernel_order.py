"""In by_matrix the kernel is flattened pixel by pixel (channels last), while the patches are channel by channel.
Shows for more than one channel with patch_size > 1; grey images are right."""

from patchify import patchify
from torch import Tensor


def by_matrix(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Images (b, c, y, x), a kernel (d, c, p, p) and a bias (d,) -> tokens (b, n, d), by your `patchify`."""
    d, c, p, _ = weight.shape
    matrix = weight.permute(2, 3, 1, 0).reshape(c * p * p, d)
    return patchify(images, p) @ matrix + bias
