"""Station 7: a block, and its residual stream.

    x ──┬──────────────────> + ──┬──────────────────> + ──> x
        └─ norm1 ── attn ────┘   └─ norm2 ── mlp ─────┘

    x = x + attn(norm1(x))           attention combines the tokens
    x = x + mlp(norm2(x))            the MLP works on each token alone

The upper line is the residual stream. A block never replaces it: each branch takes the stream, normalises it, and adds
its output. This is "pre-norm": the norm is on the branch. The stream itself is never normalised inside the blocks, so
the input of a deep model can reach its end.

`attn` and `mlp` are modules that are passed to the block; the norms are your own `LayerNorm`, one for each branch.

Before you write: an older order, "post-norm", is x = norm1(x + attn(x)), then x = norm2(x + mlp(x)). The norms are new,
and `attn` and `mlp` return zeros. What does that block return?
    a  zeros        b  its input, normalised        c  its input
"""

from torch import Tensor, nn

from vitral.lab.solutions.feed_forward import LayerNorm

prediction = ""  # "a", "b" or "c"


class Block(nn.Module):
    """Tokens (b, n, embed_dim) -> tokens (b, n, embed_dim)."""

    def __init__(self, attn: nn.Module, mlp: nn.Module, embed_dim: int):
        super().__init__()
        # Yours: self.norm1, self.attn, self.norm2, self.mlp.
        self.norm1 = LayerNorm(embed_dim)
        self.attn = attn
        self.norm2 = LayerNorm(embed_dim)
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        # Yours: the two lines above.
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))
