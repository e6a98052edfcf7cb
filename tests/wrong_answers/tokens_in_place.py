"""The positions are added to the caller's patches in place; the sequence itself is right.
Shows for every input: `patches` is changed (and an error if it is a leaf that requires gradients)."""

import torch
from torch import Tensor


def with_tokens(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """Patches (b, n, d), cls_token (1, 1, d), pos_embed (1, n + 1, d) -> the sequence (b, n + 1, d)."""
    batch = patches.shape[0]
    cls = (cls_token + pos_embed[:, :1]).expand(batch, 1, -1)
    patches += pos_embed[:, 1:]
    return torch.cat([cls, patches], dim=1)
