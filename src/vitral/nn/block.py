"""The pre-norm encoder block (Dosovitskiy et al. 2021, equations 2 and 3).

Axes:  b batch   n tokens   d width
"""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

LayerNorm = partial(nn.LayerNorm, eps=1e-6)  # the paper's epsilon; PyTorch's default is 1e-5


class Block(nn.Module):
    """x + attn(norm(x)), then x + mlp(norm(x)): tokens exchange, then each thinks for itself.

    `attn` and `mlp` are any modules from tokens (B, N, D) to tokens (B, N, D).
    """

    def __init__(self, attn: nn.Module, mlp: nn.Module, embed_dim: int, norm: Callable[[int], nn.Module] = LayerNorm):
        super().__init__()
        self.norm1 = norm(embed_dim)
        self.attn = attn
        self.norm2 = norm(embed_dim)
        self.mlp = mlp

    def forward(self, x: Float[Tensor, "b *n d"]) -> Float[Tensor, "b *n d"]:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))
