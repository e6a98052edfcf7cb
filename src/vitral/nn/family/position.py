"""Other ways to say where a token stood.

Axes:  b batch   n tokens   g patches   d width   gy gx rows, columns of patches
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.nn.position import LearnedPosition


def waves(grid: tuple[int, int], embed_dim: int, last: float = 1.0) -> Float[Tensor, "g d"]:
    """Sines and cosines of the column, then of the row, at frequencies from 1 down to 10,000^-last.

    Raises `ConfigError` for a width that does not split into four.
    """
    if embed_dim % 4:
        raise ConfigError(
            f"embed_dim={embed_dim} cannot hold sines and cosines of rows and columns: take a multiple of 4."
        )
    quarter = embed_dim // 4
    frequency = 10_000 ** (-last * torch.arange(quarter) / quarter)
    row, column = torch.meshgrid(*(torch.arange(side, dtype=frequency.dtype) for side in grid), indexing="ij")
    angle = [place.reshape(-1, 1) * frequency for place in (column, row)]
    return torch.cat([wave for part in angle for wave in (part.sin(), part.cos())], dim=1)


class SinCosStart(LearnedPosition):
    """A learned table that starts as sines and cosines, half for the column, half for the row.

    After Vaswani et al. 2017, §3.5.

    The lecture's positions but for where they begin; in a run of a minute the start matters.
    """

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> Float[Tensor, "1 n d"]:
        return torch.cat([torch.zeros(num_prefix_tokens, embed_dim), waves(grid, embed_dim)])[None]


class PatchPosition(LearnedPosition):
    """A learned row for each patch, and none for the tokens before them (DeiT III, SigLIP, DINOv2's registers)."""

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> Float[Tensor, "1 g d"]:
        return super().table(0, grid, embed_dim)

    def __call__(self, tokens: Float[Tensor, "b n d"], table: Float[Tensor, "1 g d"]) -> Float[Tensor, "b n d"]:
        return tokens + F.pad(table, (0, 0, tokens.shape[1] - table.shape[1], 0))


class SinCosPosition:
    """Sines and cosines that stay as they are (Beyer et al. 2022, "Better plain ViT baselines", §3).

    Their frequencies end at 1/10,000 exactly, as in that paper's code.
    """

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> None:
        quarter = max(2, embed_dim // 4)
        fixed = waves(grid, embed_dim, last=quarter / (quarter - 1))
        self.fixed = F.pad(fixed, (0, 0, num_prefix_tokens, 0))

    def __call__(self, tokens: Float[Tensor, "b n d"], table: None) -> Float[Tensor, "b n d"]:
        return tokens + self.fixed.to(tokens)


class NoPosition:
    """Nothing: what remains is a bag of patches, or positions that the mixer knows (rotary, windows, convolutions)."""

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> None:
        return None

    def __call__(self, tokens: Float[Tensor, "b n d"], table: None) -> Float[Tensor, "b n d"]:
        return tokens
