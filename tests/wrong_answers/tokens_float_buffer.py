"""The sequence is written into a new buffer of the default dtype, which rounds the tokens to float32.
Shows for float64 (lost digits) and half precision (result is float32); float32 is right."""

import torch
from torch import Tensor


def with_tokens(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """Patches (b, n, d), cls_token (1, 1, d), pos_embed (1, n + 1, d) -> the sequence (b, n + 1, d)."""
    b, n, d = patches.shape
    sequence = torch.empty(b, n + 1, d)
    sequence[:, 0] = cls_token[:, 0]
    sequence[:, 1:] = patches
    return sequence + pos_embed
