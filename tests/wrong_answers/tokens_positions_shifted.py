"""The last row of positions goes to the class token and row i to patch i: all positions are off by one.
Shows for every input unless all rows of pos_embed are the same."""

import torch
from torch import Tensor


def with_tokens(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """Patches (b, n, d), cls_token (1, 1, d), pos_embed (1, n + 1, d) -> the sequence (b, n + 1, d)."""
    placed = patches + pos_embed[:, :-1]
    first = cls_token + pos_embed[:, -1:]
    return torch.cat((first.repeat(patches.size(0), 1, 1), placed), dim=1)
