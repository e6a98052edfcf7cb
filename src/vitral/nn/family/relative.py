"""Attention that adds a learned number for how far apart two patches are (Liu et al. 2021, "Swin", §3.2).

Axes:  b batch   h heads   n tokens   d width   e width of one head
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitral.nn.attention import Attention


def differences(grid: tuple[int, int], reach: tuple[int, int] | None = None) -> Int[Tensor, "n n"]:
    """For each pair of patches the row of a bias table: how many rows and columns lie between, counted from the least.

    `reach` is the grid that the table was made for, by default this one: (2 rows - 1)(2 columns - 1) rows.
    """
    rows, columns = reach or grid
    y, x = torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")
    apart_y, apart_x = (place.flatten()[:, None] - place.flatten() for place in (y, x))
    return (apart_y + rows - 1) * (2 * columns - 1) + apart_x + columns - 1


class RelativeBiasAttention(Attention):
    """softmax(q kᵀ / √e + bias[distance]) v over all patches; pairs with a token before the patches have no bias."""

    index: Tensor

    def place(self, grid: tuple[int, int], num_prefix_tokens: int) -> None:
        self.num_prefix_tokens = num_prefix_tokens
        self.register_buffer("index", differences(grid), persistent=False)
        self.bias_table = nn.Parameter(torch.zeros((2 * grid[0] - 1) * (2 * grid[1] - 1), self.num_heads))

    def init_weights(self) -> None:
        nn.init.trunc_normal_(self.bias_table, std=0.02)

    def bias(self) -> Float[Tensor, "h n n"]:
        between = self.bias_table[self.index].permute(2, 0, 1)
        return F.pad(between, (self.num_prefix_tokens, 0, self.num_prefix_tokens, 0))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias().to(q.dtype)[None])
        return self.proj(rearrange(x, "b h n e -> b n (h e)"))
