"""The branches are added to the caller's tensor in place; the output is right.
Shows for every input: x is changed (and an error if it is a leaf that requires gradients)."""

from feed_forward import LayerNorm
from torch import Tensor, nn


class Block(nn.Module):
    """Tokens (b, n, embed_dim) -> tokens (b, n, embed_dim)."""

    def __init__(self, attn: nn.Module, mlp: nn.Module, embed_dim: int):
        super().__init__()
        self.norm1 = LayerNorm(embed_dim)
        self.norm2 = LayerNorm(embed_dim)
        self.attn = attn
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        x += self.attn(self.norm1(x))
        x += self.mlp(self.norm2(x))
        return x
