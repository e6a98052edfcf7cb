"""From tokens to an answer: which tokens are read (pool), and what is said about them (head).

Axes:  b batch   n tokens   d width   k classes
"""

from jaxtyping import Float
from torch import Tensor, nn


class CLSPool(nn.Module):
    """Read the first token: the class token, which has gathered what it needs (Dosovitskiy et al. 2021, equation 4)."""

    def __init__(self, embed_dim: int, num_heads: int, hidden_dim: int):
        super().__init__()

    def forward(self, x: Float[Tensor, "b n d"], num_prefix_tokens: int) -> Float[Tensor, "b d"]:
        return x[:, 0]


class MLPHead(nn.Sequential):
    """One hidden layer of tanh: the head the paper pre-trains with (§3.1).

    The default is its fine-tuning head, `nn.Linear`.
    """

    def __init__(self, embed_dim: int, num_classes: int):
        super().__init__(nn.Linear(embed_dim, embed_dim), nn.Tanh(), nn.Linear(embed_dim, num_classes))
