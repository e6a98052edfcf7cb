"""Station 7: a block, and the stream that runs through it.

    x ──┬──────────────────> + ──┬──────────────────> + ──> x
        └─ norm1 ── attn ────┘   └─ norm2 ── mlp ─────┘

    x = x + attn(norm1(x))           tokens meet
    x = x + mlp(norm2(x))            each thinks for itself

Nothing is ever replaced: a block reads the stream through a norm and adds what it found. That is "pre-norm": the norm
stands on the branch. Inside the blocks the stream is never normed, so whatever enters a deep model can reach its end.

`attn` and `mlp` are modules that are given to the block; the norms are your own `LayerNorm`, one for each branch.

Before you write: an older order, "post-norm", is x = norm1(x + attn(x)), then x = norm2(x + mlp(x)). The norms are new,
and `attn` and `mlp` give zeros for everything. What would that block give?
    a  zeros        b  its input, normed        c  its input
"""

from feed_forward import LayerNorm
from torch import Tensor, nn

prediction = "b"  # "a", "b" or "c"


class Block(nn.Module):
    """Tokens (b, n, embed_dim) -> tokens (b, n, embed_dim)."""

    def __init__(self, attn: nn.Module, mlp: nn.Module, embed_dim: int):
        super().__init__()
        self.norm1 = LayerNorm(embed_dim)
        self.attn = attn
        self.norm2 = LayerNorm(embed_dim)
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))
