"""Other ways to say where a token stood.

Axes:  n tokens   d width   gy gx rows, columns of patches
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.nn.position import LearnedPosition


class SinCosStart(LearnedPosition):
    """A learned table that starts as sines and cosines, half for the column, half for the row.

    After Vaswani et al. 2017, §3.5.

    The lecture's positions but for where they begin; in a run of a minute the start matters.
    """

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> Float[Tensor, "1 n d"]:
        if embed_dim % 4:
            raise ConfigError(
                f"embed_dim={embed_dim} cannot hold sines and cosines of rows and columns: take a multiple of 4."
            )
        quarter = embed_dim // 4
        frequency = 10_000 ** (-torch.arange(quarter) / quarter)
        row, column = torch.meshgrid(*(torch.arange(side, dtype=frequency.dtype) for side in grid), indexing="ij")
        angle = [place.reshape(-1, 1) * frequency for place in (column, row)]
        waves = torch.cat([wave for part in angle for wave in (part.sin(), part.cos())], dim=1)
        return torch.cat([torch.zeros(num_prefix_tokens, embed_dim), waves])[None]
