"""LayerNorm adds eps to the standard deviation, after the root, instead of to the variance.
Shows for tokens of small variance (or a large eps), and in float64 for every token."""

import math

import torch
from torch import Tensor, nn


def gelu(x: Tensor) -> Tensor:
    """x times the share of a normal distribution that lies below x; any shape."""
    return 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0)))


class LayerNorm(nn.Module):
    """Tokens (..., embed_dim) -> tokens (..., embed_dim)."""

    def __init__(self, embed_dim: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(embed_dim))
        self.bias = nn.Parameter(torch.zeros(embed_dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        mu = x.mean(-1, keepdim=True)
        sigma = x.var(-1, keepdim=True, unbiased=False).sqrt()
        return self.weight * (x - mu) / (sigma + self.eps) + self.bias
