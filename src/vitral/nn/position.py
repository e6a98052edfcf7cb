"""Where a token stood: without positions a transformer sees a bag of patches.

Dosovitskiy et al. 2021, §3.1 and appendix D.4.

Axes:  b batch   n tokens   d width
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LearnedPosition:
    """x + pos_embed: one learned row per token, prefix tokens included.

    "1-D" because a row belongs to a place in the sequence; that the sequence was once a grid is left to be learned.
    The lecture adds positions to the patches only. A row for CLS changes nothing that can be learned (the class token
    is itself a free vector, and their sum is what enters), so it is kept as the paper and published models have it.

    The table is a Parameter of the model (`pos_embed`); this part makes it and uses it.
    """

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> Float[Tensor, "1 n d"]:
        rows = num_prefix_tokens + grid[0] * grid[1]
        return nn.init.trunc_normal_(torch.empty(1, rows, embed_dim), std=0.02)

    def __call__(self, tokens: Float[Tensor, "b n d"], table: Float[Tensor, "1 n d"]) -> Float[Tensor, "b n d"]:
        return tokens + table
