"""Models whose tokens meet in the first blocks only: in the rest each goes on alone, and then they are averaged.

So is made a convolutional model that sees no further than m times its kernel's radius, but is as deep as any other.

Axes:  b batch   n tokens   d width
"""

from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.block import Block, LayerNorm
from vitral.nn.family.mixer import NoMixing
from vitral.nn.family.pool import MeanPool
from vitral.nn.mlp import MLP


class SettledPool(MeanPool):
    """`more` blocks in which no token meets another, the final norm of each, and the mean of the patches."""

    norms = True
    more = 1

    def __init__(self, embed_dim: int, num_heads: int, hidden_dim: int):
        super().__init__(embed_dim, num_heads, hidden_dim)
        self.blocks = nn.ModuleList(
            Block(NoMixing(embed_dim, num_heads), MLP(embed_dim, hidden_dim), embed_dim) for _ in range(self.more)
        )
        self.norm = LayerNorm(embed_dim)

    def init_weights(self) -> None:
        """The blocks start as the identity, as the model's own do."""
        for part in self.modules():
            if isinstance(part, MLP):
                nn.init.zeros_(part.fc2.weight)

    def forward(self, x: Float[Tensor, "b n d"], num_prefix_tokens: int) -> Float[Tensor, "b d"]:
        for block in self.blocks:
            x = block(x)
        return super().forward(self.norm(x), num_prefix_tokens)


class SettledPool2(SettledPool):
    more = 2


class SettledPool3(SettledPool):
    more = 3
