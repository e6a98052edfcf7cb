"""Other ways to make a layer of a mixer and an MLP, and to leave layers out while training.

Axes:  b batch   n tokens   d width
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.block import Block, LayerNorm


class LayerNorm5(nn.LayerNorm):
    """With 1e-5 in the root: PyTorch's default, Swin's, and the released DINOv3's."""

    def __init__(self, embed_dim: int):
        super().__init__(embed_dim, eps=1e-5)


class LayerNorm12(nn.LayerNorm):
    """With 1e-12 in the root: Hugging Face's ViT and DeiT."""

    def __init__(self, embed_dim: int):
        super().__init__(embed_dim, eps=1e-12)


class LayerScale(nn.Module):
    """x · gamma, learned for each channel and small at first (Touvron et al. 2021, "Going deeper", §2)."""

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

    def forward(self, x: Float[Tensor, "b *n d"]) -> Float[Tensor, "b *n d"]:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


def stochastic_depth(blocks: Sequence[nn.Module], rate: float) -> None:
    """While training, leave out each branch of each image at random: never in the first block, at `rate` in the last.

    What stays is divided by its share, so that the mean is kept (Huang et al. 2016; rates linear in depth, §3).
    """
    for number, block in enumerate(blocks):
        share = rate * number / max(1, len(blocks) - 1)
        for scale, branch in (("ls1", "attn"), ("ls2", "mlp")):
            getattr(block, scale, block.get_submodule(branch)).register_forward_hook(partial(drop, share))


def drop(share: float, module: nn.Module, args: tuple, out: Tensor) -> Tensor:
    if not (module.training and share):
        return out
    stays = torch.rand(out.shape[0], *[1] * (out.ndim - 1), device=out.device, dtype=out.dtype) >= share
    return out * stays / (1 - share)
