"""Other position embeddings: fixed, for patches only, none.

Axes:  b batch   n tokens   g patches   d width   gy gx rows, columns of patches
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.nn.position import LearnedPosition


def sines_and_cosines(grid: tuple[int, int], embed_dim: int, last: float = 1.0) -> Float[Tensor, "g d"]:
    """Sines and cosines of the column, then of the row, at frequencies from 1 down to 10,000^-last.

    Raises `ConfigError` for a width that does not split into four.
    """
    if embed_dim % 4:
        raise ConfigError(
            f"embed_dim={embed_dim} cannot hold sines and cosines of rows and columns: use a multiple of 4."
        )
    quarter = embed_dim // 4
    frequency = 10_000 ** (-last * torch.arange(quarter) / quarter)
    row, column = torch.meshgrid(*(torch.arange(side, dtype=frequency.dtype) for side in grid), indexing="ij")
    angles = [index.reshape(-1, 1) * frequency for index in (column, row)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)


class SinCosStart(LearnedPosition):
    """A learned table that starts as sines and cosines of the column and of the row (after Vaswani et al. 2017, §3.5).

    It differs from `LearnedPosition` only at the start, which matters in a run of a minute.
    """

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> Float[Tensor, "1 n d"]:
        return torch.cat([torch.zeros(num_prefix_tokens, embed_dim), sines_and_cosines(grid, embed_dim)])[None]


class PatchPosition(LearnedPosition):
    """A learned row for each patch, none for the tokens before them (DeiT III, SigLIP, DINOv2 with registers)."""

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> Float[Tensor, "1 g d"]:
        return super().table(0, grid, embed_dim)

    def __call__(self, tokens: Float[Tensor, "b n d"], table: Float[Tensor, "1 g d"]) -> Float[Tensor, "b n d"]:
        return tokens + F.pad(table, (0, 0, tokens.shape[1] - table.shape[1], 0))


class SinCosPosition(nn.Module):
    """Fixed sines and cosines (Beyer et al. 2022, "Better plain ViT baselines", §3).

    The frequencies end at exactly 1/10,000, as in that paper's code.
    """

    fixed: Tensor

    def __init__(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int):
        super().__init__()
        quarter = max(2, embed_dim // 4)
        table = sines_and_cosines(grid, embed_dim, last=quarter / (quarter - 1))[None]
        # A buffer, so that it follows the model to a device or dtype; not persistent, since it is no weight to save.
        self.register_buffer("fixed", F.pad(table, (0, 0, num_prefix_tokens, 0)), persistent=False)

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> None:
        return None

    def forward(self, tokens: Float[Tensor, "b n d"], table: None) -> Float[Tensor, "b n d"]:
        return tokens + self.fixed.to(tokens.dtype)  # under autocast, patches are in half precision


class NoPosition:
    """No embedding: the order of patches is lost, unless the mixer has it (rotary positions, windows, convolutions)."""

    def table(self, num_prefix_tokens: int, grid: tuple[int, int], embed_dim: int) -> None:
        return None

    def __call__(self, tokens: Float[Tensor, "b n d"], table: None) -> Float[Tensor, "b n d"]:
        return tokens
