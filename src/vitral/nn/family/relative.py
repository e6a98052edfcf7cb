"""Attention with a learned bias for the displacement between two patches (Liu et al. 2021, "Swin", §3.2).

Axes:  b batch   h heads   n tokens   d width
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitral.nn.attention import Attend, Attention


def displacement_index(grid: tuple[int, int], reach: tuple[int, int] | None = None) -> Int[Tensor, "n n"]:
    """The row of a bias table for each pair of patches, by the rows and columns between them.

    The table is for a grid of `reach`, by default this one, and has (2 rows - 1)(2 columns - 1) rows.
    """
    rows, columns = reach or grid
    y, x = torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")
    down, right = (index.flatten()[:, None] - index.flatten() for index in (y, x))
    return (down + rows - 1) * (2 * columns - 1) + right + columns - 1  # shifted so that the least is zero


class RelativeBiasAttention(Attention):
    """softmax(q kᵀ / √e + bias[displacement]) v over all patches; the tokens before the patches have no bias."""

    index: Tensor

    def set_grid(self, grid: tuple[int, int], num_prefix_tokens: int) -> None:
        self.num_prefix_tokens = num_prefix_tokens
        self.register_buffer("index", displacement_index(grid), persistent=False)
        self.bias_table = nn.Parameter(torch.zeros((2 * grid[0] - 1) * (2 * grid[1] - 1), self.num_heads))

    def init_weights(self) -> None:
        nn.init.trunc_normal_(self.bias_table, std=0.02)

    def bias(self) -> Float[Tensor, "h n n"]:
        patches = self.bias_table[self.index].permute(2, 0, 1)
        return F.pad(patches, (self.num_prefix_tokens, 0, self.num_prefix_tokens, 0))

    def forward(self, x: Float[Tensor, "b n d"], attend: Attend | None = None) -> Float[Tensor, "b n d"]:
        q, k, v = self.project(x)
        return self.proj((attend or self.attend)(q, k, v, self.bias().to(q.dtype)[None]))
