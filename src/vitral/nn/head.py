"""From tokens to logits: a pool selects or combines tokens, a head classifies (Dosovitskiy et al. 2021, §3.1).

Axes:  b batch   n tokens   d width   k classes
"""

from jaxtyping import Float
from torch import Tensor, nn


class CLSPool(nn.Module):
    """The first token: the class token, to which attention has moved what the head needs (equation 4 of the paper)."""

    def forward(self, x: Float[Tensor, "b n d"], num_prefix_tokens: int) -> Float[Tensor, "b d"]:
        return x[:, 0]


class MLPHead(nn.Sequential):
    """One hidden layer with tanh: the paper's head for pre-training (§3.1).

    Its head for fine-tuning is the default, `nn.Linear`.
    """

    def __init__(self, embed_dim: int, num_classes: int):
        super().__init__(nn.Linear(embed_dim, embed_dim), nn.Tanh(), nn.Linear(embed_dim, num_classes))
