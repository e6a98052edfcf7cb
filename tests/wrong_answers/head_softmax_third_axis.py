"""The softmax runs over axis 2, counted from the front: right for (b, n, e), over the queries for (b, heads, n, e).
Shows for four or more axes (wrong weights) and for two (an error)."""

import torch
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Queries, keys and values (..., n, e) -> output (..., n, e) and weights (..., n, n)."""
    scale = q.shape[-1] ** 0.5
    similarity = q @ k.transpose(-1, -2) / scale
    weights = torch.softmax(similarity, dim=2)
    return weights @ v, weights
