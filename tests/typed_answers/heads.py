"""Station 5: many heads.

    x (b, n, d) ── qkv ──> (b, n, 3 d)  =  [ all queries | all keys | all values ]
                                             each: [ head 0 | head 1 | ... ]    d = heads x e
    every head by itself:  attention of (b, heads, n, e)
    then beside each other again: (b, n, d) ── proj ──> (b, n, d)

One head gives one weighted mean. Several, each on its own e = d / heads numbers, can look at several places at once;
`proj` then mixes what they found. One linear map makes queries, keys and values for all heads together. Both maps
have a bias.

Splitting d into (heads, e) is a reshape; putting the heads before the tokens is a transpose. Both are needed: a
reshape alone would mix tokens into heads. einops does both at once, and what stands first can be unpacked:
`one, two = rearrange(x, "n (two e) -> two n e", two=2)`. Your `attention` returns two things, the output first.

Before you write: how many numbers do the maps `qkv` and `proj` hold, biases left out, with 8 heads instead of 4?
    a  twice as many        b  as many        c  half as many
"""

from head import attention
from torch import Tensor, nn

prediction = "b"  # "a", "b" or "c"


class Attention(nn.Module):
    """Tokens (b, n, embed_dim) -> tokens (b, n, embed_dim)."""

    def __init__(self, embed_dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (self.split(part) for part in (q, k, v))
        out, _ = attention(q, k, v)
        out = out.transpose(1, 2).flatten(2)  # the heads beside each other: (b, n, heads * e)
        return self.proj(out)

    def split(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, heads, n, e)"""
        b, n, d = x.shape
        return x.reshape(b, n, self.num_heads, d // self.num_heads).transpose(1, 2)
