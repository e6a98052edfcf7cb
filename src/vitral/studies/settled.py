"""Models whose tokens mix in the first blocks only: in the last ones each is transformed by itself, then averaged.

Such a convolutional model sees m times its kernel's radius, however deep it is.

Axes:  b batch   n tokens   d width
"""

from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.block import Block, LayerNorm
from vitral.nn.family.mixer import NoMixing
from vitral.nn.family.pool import MeanPool
from vitral.nn.mlp import MLP


class SettledPool(MeanPool):
    """`depth` blocks without a mixer, the final norm, and the mean of the patches."""

    replaces_final_norm = True

    def __init__(self, embed_dim: int, num_heads: int, hidden_dim: int, depth: int = 1):
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(NoMixing(embed_dim, num_heads), MLP(embed_dim, hidden_dim), embed_dim) for _ in range(depth)
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
