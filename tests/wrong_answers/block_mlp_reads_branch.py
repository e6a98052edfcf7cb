"""The MLP takes the output of the attention alone, not the stream with it added.
Shows for every input unless the MLP ignores its input."""

from feed_forward import LayerNorm
from torch import Tensor, nn


class Block(nn.Module):
    """Tokens (b, n, embed_dim) -> tokens (b, n, embed_dim)."""

    def __init__(self, attn: nn.Module, mlp: nn.Module, embed_dim: int):
        super().__init__()
        self.attn = attn
        self.mlp = mlp
        self.norm1 = LayerNorm(embed_dim)
        self.norm2 = LayerNorm(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        met = self.attn(self.norm1(x))
        thought = self.mlp(self.norm2(met))
        return x + met + thought
