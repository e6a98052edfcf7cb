"""Position embeddings: without them a transformer sees its patches in no order.

Dosovitskiy et al. 2021, §3.1 and appendix D.4.

Axes:  b batch   n tokens   d width
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LearnedPosition:
    """x + pos_embed: one learned row for each token, the class token included.

    "1-D" because a row belongs to an index in the sequence; that the sequence was once a grid remains to be learned.
    A row for the class token adds nothing that can be learned (the token is a free vector, and only the sum of both
    enters the first block), but the paper and published models have it.

    The table is a Parameter of the model, `pos_embed`; this part draws it and adds it.
    """

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> Float[Tensor, "1 n d"]:
        rows = num_prefix_tokens + grid[0] * grid[1]
        return nn.init.trunc_normal_(torch.empty(1, rows, embed_dim), std=0.02)

    def __call__(self, tokens: Float[Tensor, "b n d"], table: Float[Tensor, "1 n d"]) -> Float[Tensor, "b n d"]:
        return tokens + table
