"""The queries are divided by √e here although `attention` does so too: the scores are divided by e.
Shows for every input with e = embed_dim / num_heads > 1."""

from head import attention
from torch import Tensor, nn


class Attention(nn.Module):
    """Tokens (b, n, embed_dim) -> tokens (b, n, embed_dim)."""

    def __init__(self, embed_dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, embed_dim * 3)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        head_dim = C // self.num_heads
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q = q * head_dim**-0.5
        x, _weights = attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(B, N, C))
