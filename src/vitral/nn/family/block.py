"""LayerScale and stochastic depth: scale each branch of a block, or drop it at random in training.

Axes:  b batch   n tokens   d width
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.block import Block, LayerNorm


class LayerScale(nn.Module):
    """x · gamma, one learned factor per channel, small at first (Touvron et al. 2021, "Going deeper", §2)."""

    def __init__(self, embed_dim: int, start: float = 1e-5):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((embed_dim,), start))

    def forward(self, x: Float[Tensor, "b *n d"]) -> Float[Tensor, "b *n d"]:
        return x * self.gamma


class ScaledBlock(Block):
    """x + scale(attn(norm(x))), then x + scale(mlp(norm(x)))."""

    def __init__(self, attn: nn.Module, mlp: nn.Module, embed_dim: int, norm: Callable[[int], nn.Module] = LayerNorm):
        super().__init__(attn, mlp, embed_dim, norm)
        self.ls1 = LayerScale(embed_dim)
        self.ls2 = LayerScale(embed_dim)

    def forward(self, x: Float[Tensor, "b *n d"], **attending: Any) -> Float[Tensor, "b *n d"]:
        x = x + self.ls1(self.attn(self.norm1(x), **attending))
        return x + self.ls2(self.mlp(self.norm2(x)))


def stochastic_depth(blocks: Sequence[nn.Module], rate: float) -> None:
    """In training, drop each branch at random, image by image: never in the first block, at `rate` in the last.

    Rates grow linearly with depth. What remains is divided by its probability to remain, so that its mean stays the
    same (Huang et al. 2016, §3).
    """
    for number, block in enumerate(blocks):
        probability = rate * number / max(1, len(blocks) - 1)
        for scale, branch in (("ls1", "attn"), ("ls2", "mlp")):
            getattr(block, scale, block.get_submodule(branch)).register_forward_hook(partial(drop, probability))


def drop(probability: float, module: nn.Module, args: tuple, out: Tensor) -> Tensor:
    if not (module.training and probability):
        return out
    keep = torch.rand(out.shape[0], *[1] * (out.ndim - 1), device=out.device, dtype=out.dtype) >= probability
    return out * keep / (1 - probability)
