"""LayerNorm treats mean and variance as constants (no_grad): its output is right, its gradient for x is not.
Shows for every input as soon as gradients are compared."""

import math

import torch
from torch import Tensor, nn


def gelu(x: Tensor) -> Tensor:
    """x times the share of a normal distribution that lies below x; any shape."""
    phi = 0.5 + 0.5 * torch.erf(x / math.sqrt(2))
    return x * phi


class LayerNorm(nn.Module):
    """Tokens (..., embed_dim) -> tokens (..., embed_dim)."""

    def __init__(self, embed_dim: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(embed_dim))
        self.bias = nn.Parameter(torch.zeros(embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            mean = x.mean(dim=-1, keepdim=True)
            std = torch.sqrt(x.var(dim=-1, keepdim=True, unbiased=False) + self.eps)
        return (x - mean) / std * self.weight + self.bias
