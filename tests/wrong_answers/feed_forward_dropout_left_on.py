"""The MLP drops a tenth of its hidden numbers by F.dropout, which is on by default, in training and in eval mode.
Shows for every input: two calls of the same MLP differ."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gelu(x: Tensor) -> Tensor:
    """x times the share of a normal distribution that lies below x; any shape."""
    below = (1 + torch.erf(x * 2**-0.5)) / 2
    return x * below


class MLP(nn.Module):
    """Tokens (..., embed_dim) -> tokens (..., embed_dim)."""

    def __init__(self, embed_dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = gelu(self.fc1(x))
        x = F.dropout(x, p=0.1)
        return self.fc2(x)
