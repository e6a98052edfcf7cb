"""Station 5: many heads.

    x (b, n, d) ── qkv ──> (b, n, 3 d)  =  [ all queries | all keys | all values ]
                                             each: [ head 0 | head 1 | ... ]    d = heads x e
    every head by itself:  attention of (b, heads, n, e)
    then joined again:  (b, n, d) ── proj ──> (b, n, d)

One head computes one weighted mean. Several heads, each with its own e = d / heads numbers, can attend to different
tokens at once; `proj` then mixes their outputs. One linear layer computes queries, keys and values for all heads
together. Both linear layers have a bias.

To split d into (heads, e) is a reshape; to put the heads before the tokens is a transpose. Both are needed: a reshape
alone would mix tokens into heads. einops does both at once, and the first axis can be unpacked:
`one, two = rearrange(x, "n (two e) -> two n e", two=2)`. Your `attention` returns two things, the output first.

Before you write: how many weights do `qkv` and `proj` have, without biases, with 8 heads instead of 4?
    a  twice as many        b  as many        c  half as many
"""

from einops import rearrange
from torch import Tensor, nn

from vitral.lab.solutions.head import attention

prediction = ""  # "a", "b" or "c"


class Attention(nn.Module):
    """Tokens (b, n, embed_dim) -> tokens (b, n, embed_dim)."""

    def __init__(self, embed_dim: int, num_heads: int):
        super().__init__()
        # Yours: self.num_heads; self.qkv and self.proj, two nn.Linear.
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        # Yours: q, k and v of every head, your `attention`, the heads joined, `proj`.
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        out, _ = attention(q, k, v)
        return self.proj(rearrange(out, "b h n e -> b n (h e)"))
