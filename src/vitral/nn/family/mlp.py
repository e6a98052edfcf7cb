"""Other feed-forward networks.

Axes:  b batch   n tokens   d width
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.mlp import MLP


class TanhMLP(MLP):
    """With the tanh approximation of GELU, JAX's default: Google's own checkpoints and SigLIP."""

    def forward(self, x: Float[Tensor, "b *n d"]) -> Float[Tensor, "b *n d"]:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class SwiGLU(nn.Module):
    """(SiLU(x W1) * x W2) W3: one half of the hidden numbers gates the other (Shazeer 2020, "GLU Variants", §2).

    `fc1` stacks W1 on W2.
    """

    def __init__(self, embed_dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, 2 * hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: Float[Tensor, "b *n d"]) -> Float[Tensor, "b *n d"]:
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(F.silu(gate) * value)
