"""by_matrix takes the kernel by `.data`, so no gradient reaches `weight`; the numbers are right.
Shows for every input as soon as the gradient of the kernel is asked for."""

import torch.nn.functional as F
from patchify import patchify
from torch import Tensor


def by_matrix(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Images (b, c, y, x), a kernel (d, c, p, p) and a bias (d,) -> tokens (b, n, d), by your `patchify`."""
    out_channels, _, size, _ = weight.shape
    lines = patchify(images, size)
    return F.linear(lines, weight.data.view(out_channels, -1), bias)
