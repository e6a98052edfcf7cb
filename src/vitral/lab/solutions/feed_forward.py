"""Station 6: the MLP and its norm, for each token by itself.

    LayerNorm   (x - mean) / √(variance + eps) * weight + bias        over the numbers of one token
    GELU        x Φ(x)       Φ: the share of a normal distribution below x;  Φ(x) = (1 + erf(x / √2)) / 2
    MLP         GELU(x W1 + b1) W2 + b2                               d -> hidden -> d

Attention combines tokens; these three work on each token alone. LayerNorm brings every token to mean 0 and variance 1
(divide by d, not d - 1), then multiplies by a learned weight and adds a learned bias. GELU passes large numbers and
stops very negative ones, with a smooth bend between. The MLP is two linear layers with GELU between.

Useful: `x.mean(dim=-1, keepdim=True)`; `x.var(dim=-1, keepdim=True, unbiased=False)`; `torch.erf(x)`. Learned numbers
are an nn.Parameter: `nn.Parameter(torch.ones(d))` starts with d ones. PyTorch has both as nn.LayerNorm and F.gelu, but
write them yourself once.

Before you write: every number of a token is multiplied by 10. What does LayerNorm return (ignore eps)?
    a  ten times as much        b  the same        c  a tenth
"""

import torch
from torch import Tensor, nn

prediction = ""  # "a", "b" or "c"


def gelu(x: Tensor) -> Tensor:
    """Return x Φ(x), for x of any shape."""
    # Yours: with torch.erf.
    return x * (1 + torch.erf(x / 2**0.5)) / 2


class LayerNorm(nn.Module):
    """Tokens (..., embed_dim) -> tokens (..., embed_dim)."""

    def __init__(self, embed_dim: int, eps: float = 1e-6):
        super().__init__()
        # Yours: self.eps; self.weight (ones) and self.bias (zeros), each an nn.Parameter.
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(embed_dim))
        self.bias = nn.Parameter(torch.zeros(embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        # Yours: the formula above.
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        return centred / (variance + self.eps).sqrt() * self.weight + self.bias


class MLP(nn.Module):
    """Tokens (..., embed_dim) -> tokens (..., embed_dim)."""

    def __init__(self, embed_dim: int, hidden_dim: int):
        super().__init__()
        # Yours: self.fc1 and self.fc2, two nn.Linear.
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        # Yours: fc1, your `gelu`, fc2.
        return self.fc2(gelu(self.fc1(x)))
