"""The convolution by loops turns the kernel by 180 degrees, as in mathematics; F.conv2d does not.
Shows for every kernel that is not point-symmetric."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mixed(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """Patch tokens (b, rows x columns, d) and a kernel (d, 1, 3, 3) -> tokens (b, rows x columns, d)."""
    rows, columns = grid
    b, n, d = tokens.shape
    field = F.pad(tokens.transpose(1, 2).reshape(b, d, rows, columns), (1, 1, 1, 1))
    out = torch.zeros(b, d, rows, columns, dtype=tokens.dtype)
    for i in range(3):
        for j in range(3):
            window = field[:, :, 2 - i : 2 - i + rows, 2 - j : 2 - j + columns]
            out = out + window * weight[:, 0, i, j].view(1, d, 1, 1)
    return out.reshape(b, d, n).transpose(1, 2)


def reach(blocks: int, kernel: int) -> int:
    """How many patches one token's output depends on along one side: 1 for no block, 3 for one of 3 x 3."""
    width = 1
    for _ in range(blocks):
        width += kernel - 1
    return width


def attention_share(n: int, d: int) -> float:
    """The share of 2 n² d in all multiply-adds of a block, 12 n d² + 2 n² d."""
    meet = 2 * n * n * d
    return meet / (meet + 12 * n * d * d)
