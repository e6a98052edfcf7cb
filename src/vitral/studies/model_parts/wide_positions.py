"""Learned positions with a wide initialisation."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.position import LearnedPosition


class WideStart(LearnedPosition):
    """Learned positions initialised with standard deviation 1/√D instead of 0.02, as in Google's big_vision."""

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> Float[Tensor, "1 n d"]:
        rows = num_prefix_tokens + grid[0] * grid[1]
        return nn.init.trunc_normal_(torch.empty(1, rows, embed_dim), std=embed_dim**-0.5)
