"""The last einsum sums over the queries: the output is weights transposed times v; the returned weights are right.
Shows for every input whose weights are not symmetric."""

import math

import torch
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Queries, keys and values (..., n, e) -> output (..., n, e) and weights (..., n, n)."""
    scores = torch.einsum("...ie,...je->...ij", q, k) / math.sqrt(q.size(-1))
    probs = torch.softmax(scores, dim=-1)
    out = torch.einsum("...ij,...ie->...je", probs, v)
    return out, probs
