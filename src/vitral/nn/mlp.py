"""The feed-forward network of a block: the same two layers for each token (Vaswani et al. 2017, §3.3).

Axes:  b batch   n tokens   d width
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class MLP(nn.Module):
    """GELU(x W1 + b1) W2 + b2, with `hidden_dim` numbers in between; each token is computed from itself alone.

    >>> import torch
    >>> from vitral import MLP
    >>> MLP(embed_dim=192, hidden_dim=768)(torch.zeros(2, 197, 192)).shape
    torch.Size([2, 197, 192])
    """

    def __init__(self, embed_dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: Float[Tensor, "b *n d"]) -> Float[Tensor, "b *n d"]:
        return self.fc2(F.gelu(self.fc1(x)))
