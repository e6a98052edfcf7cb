"""Mean pooling after blocks without token mixing: each token is processed on its own, then all are averaged.

After m convolutional blocks this gives a model whose receptive field is m times the kernel's radius, but which is as
deep as any other.

Axes:  b batch   n tokens   d width
"""

from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.block import Block, LayerNorm
from vitral.nn.family.mixer import NoMixing
from vitral.nn.family.pool import MeanPool
from vitral.nn.mlp import MLP


class TokenwisePool(MeanPool):
    """`depth` blocks without token mixing, the final norm, and the mean of the patches."""

    replaces_final_norm = True

    def __init__(self, embed_dim: int, num_heads: int, hidden_dim: int, depth: int = 1):
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(NoMixing(embed_dim, num_heads), MLP(embed_dim, hidden_dim), embed_dim) for _ in range(depth)
        )
        self.norm = LayerNorm(embed_dim)

    def init_weights(self) -> None:
        """Initialise the blocks to the identity, as the model does with its own."""
        for part in self.modules():
            if isinstance(part, MLP):
                nn.init.zeros_(part.fc2.weight)

    def forward(self, x: Float[Tensor, "b n d"], num_prefix_tokens: int) -> Float[Tensor, "b d"]:
        for block in self.blocks:
            x = block(x)
        return super().forward(self.norm(x), num_prefix_tokens)
