"""The neighbours are found by torch.roll, so beyond an edge comes the opposite edge instead of zeros.
Shows for the tokens at the edge of every grid."""

import torch
from torch import Tensor


def mixed(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """Patch tokens (b, rows x columns, d) and a kernel (d, 1, 3, 3) -> tokens (b, rows x columns, d)."""
    image = tokens.unflatten(1, grid)  # b, rows, columns, d
    total = 0
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            neighbour = torch.roll(image, shifts=(-dy, -dx), dims=(1, 2))
            total = total + neighbour * weight[:, 0, dy + 1, dx + 1]
    return total.flatten(1, 2)


def reach(blocks: int, kernel: int) -> int:
    """How many patches one token's output depends on along one side: 1 for no block, 3 for one of 3 x 3."""
    return blocks * (kernel - 1) + 1


def attention_share(n: int, d: int) -> float:
    """The share of 2 n² d in all multiply-adds of a block, 12 n d² + 2 n² d."""
    return n / (6 * d + n)
