"""The pre-norm encoder block (Dosovitskiy et al. 2021, equations 2 and 3).

Axes:  b batch   n tokens   d width
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """PyTorch's layer norm with the paper's epsilon, 1e-6, where PyTorch's default is 1e-5."""

    def __init__(self, embed_dim: int, eps: float = 1e-6):
        super().__init__(embed_dim, eps)


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)): attention mixes the tokens, the MLP transforms each by itself.

    `attn` and `mlp` are any modules from tokens (B, N, D) to tokens (B, N, D); keywords are passed to `attn`.

    >>> import torch
    >>> from vitral import MLP, Attention, Block
    >>> block = Block(Attention(192, num_heads=3), MLP(192, 768), embed_dim=192)
    >>> block(torch.zeros(2, 197, 192)).shape
    torch.Size([2, 197, 192])
    """

    def __init__(self, attn: nn.Module, mlp: nn.Module, embed_dim: int, norm: Callable[[int], nn.Module] = LayerNorm):
        super().__init__()
        self.norm1 = norm(embed_dim)
        self.attn = attn
        self.norm2 = norm(embed_dim)
        self.mlp = mlp

    def forward(self, x: Float[Tensor, "b *n d"], **attending: Any) -> Float[Tensor, "b *n d"]:
        x = x + self.attn(self.norm1(x), **attending)
        return x + self.mlp(self.norm2(x))
