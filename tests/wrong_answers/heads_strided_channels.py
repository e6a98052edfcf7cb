"""Channels are dealt out to the heads in turn, (e h), when split and when joined, instead of head by head, (h e).
Shows for given weights with more than one head and e > 1: shapes and names are right, the numbers are not."""

from einops import rearrange
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
        queries, keys, values = self.qkv(x).chunk(3, dim=-1)
        queries = rearrange(queries, "b n (e h) -> b h n e", h=self.num_heads)
        keys = rearrange(keys, "b n (e h) -> b h n e", h=self.num_heads)
        values = rearrange(values, "b n (e h) -> b h n e", h=self.num_heads)
        found = attention(queries, keys, values)[0]
        return self.proj(rearrange(found, "b h n e -> b n (e h)"))
