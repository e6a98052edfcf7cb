"""Station 6: what each token does by itself.

    LayerNorm   (x - mean) / √(variance + eps) * weight + bias        over the numbers of one token
    GELU        x Φ(x)       Φ: the share of a normal distribution below x;  Φ(x) = (1 + erf(x / √2)) / 2
    MLP         GELU(x W1 + b1) W2 + b2                               d -> hidden -> d

In attention tokens meet; here each goes on alone. LayerNorm brings every token to mean 0 and variance 1 (the plain mean
of squares: divided by d, not d - 1) and then lets the model choose a scale and an offset. GELU lets large numbers
through and stops very negative ones, with a smooth bend between. The MLP is two linear maps with GELU between.

`x.mean(dim=-1, keepdim=True)`; `x.var(dim=-1, keepdim=True, unbiased=False)`; `torch.erf(x)`. What is learned
is an nn.Parameter: `nn.Parameter(torch.ones(d))` holds d ones to begin with. Write them out, once in a life; PyTorch
has both, as nn.LayerNorm and F.gelu.

Before you write: every number of a token is multiplied by 10. What does LayerNorm give (leave eps aside)?
    a  ten times as much        b  the same        c  a tenth
"""

import math

import torch
from torch import Tensor, nn

prediction = "b"  # "a", "b" or "c"


def gelu(x: Tensor) -> Tensor:
    """x times the share of a normal distribution that lies below x; any shape."""
    phi = (1 + torch.erf(x / math.sqrt(2))) / 2
    return x * phi


class LayerNorm(nn.Module):
    """Tokens (..., embed_dim) -> tokens (..., embed_dim)."""

    def __init__(self, embed_dim: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(embed_dim))
        self.bias = nn.Parameter(torch.zeros(embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=-1, keepdim=True)
        var = x.var(dim=-1, keepdim=True, unbiased=False)
        normed = (x - mean) / torch.sqrt(var + self.eps)
        return normed * self.weight + self.bias


class MLP(nn.Module):
    """Tokens (..., embed_dim) -> tokens (..., embed_dim)."""

    def __init__(self, embed_dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = gelu(self.fc1(x))
        return self.fc2(hidden)
