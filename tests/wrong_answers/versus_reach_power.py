"""The reach is multiplied by the kernel with every block, kernel ** blocks, instead of growing by kernel - 1.
Shows for two or more blocks; none and one are right."""

import torch.nn.functional as F
from torch import Tensor


def mixed(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """Patch tokens (b, rows x columns, d) and a kernel (d, 1, 3, 3) -> tokens (b, rows x columns, d)."""
    batch, _, width = tokens.shape
    maps = tokens.permute(0, 2, 1).reshape(batch, width, *grid)
    maps = F.conv2d(maps, weight, stride=1, padding=1, groups=width)
    return maps.flatten(2).permute(0, 2, 1)


def reach(blocks: int, kernel: int) -> int:
    """How many patches one token's output depends on along one side: 1 for no block, 3 for one of 3 x 3."""
    return kernel**blocks


def attention_share(n: int, d: int) -> float:
    """The share of 2 n² d in all multiply-adds of a block, 12 n d² + 2 n² d."""
    linear = 12 * n * d**2
    tokens_meet = 2 * n**2 * d
    return tokens_meet / (linear + tokens_meet)
