"""Both branches use one and the same LayerNorm: a fresh block is right, a trained one cannot be loaded.
Shows when norm1 and norm2 hold different weights, and in the number of parameters."""

from feed_forward import LayerNorm
from torch import Tensor, nn


class Block(nn.Module):
    """Tokens (b, n, embed_dim) -> tokens (b, n, embed_dim)."""

    def __init__(self, attn: nn.Module, mlp: nn.Module, embed_dim: int):
        super().__init__()
        norm = LayerNorm(embed_dim)
        self.norm1, self.attn = norm, attn
        self.norm2, self.mlp = norm, mlp

    def forward(self, x: Tensor) -> Tensor:
        after_attn = x + self.attn(self.norm1(x))
        return after_attn + self.mlp(self.norm2(after_attn))
