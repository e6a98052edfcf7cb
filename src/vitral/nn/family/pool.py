"""Other ways to pool tokens: means, several tokens, attention.

Axes:  b batch   n tokens   d width   h heads   e width of one head
"""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.nn.attention import attend
from vitral.nn.block import LayerNorm
from vitral.nn.mlp import MLP


class MeanPool(nn.Module):
    """The mean of the patch tokens, without the prefix tokens (Beyer et al. 2022, "Better plain ViT baselines")."""

    def forward(self, x: Float[Tensor, "b n d"], num_prefix_tokens: int) -> Float[Tensor, "b d"]:
        return x[:, num_prefix_tokens:].mean(dim=1)


class NormedMeanPool(MeanPool):
    """The mean first, then the final norm, as masked autoencoders are fine-tuned (He et al. 2022, appendix A.1)."""

    replaces_final_norm = True

    def __init__(self, embed_dim: int):
        super().__init__()
        self.norm = LayerNorm(embed_dim)

    def forward(self, x: Float[Tensor, "b n d"], num_prefix_tokens: int) -> Float[Tensor, "b d"]:
        return self.norm(super().forward(x, num_prefix_tokens))


class CLSAndMeanPool(MeanPool):
    """The class token beside the mean of the patches, for `WideHead` (Oquab et al. 2023, "DINOv2", appendix B.3)."""

    def forward(self, x: Float[Tensor, "b n d"], num_prefix_tokens: int) -> Float[Tensor, "b e"]:
        return torch.cat([x[:, 0], super().forward(x, num_prefix_tokens)], dim=-1)


class FirstTwo(nn.Module):
    """The class token and the distillation token, for `DistilledHead` (Touvron et al. 2021, §4)."""

    def forward(self, x: Float[Tensor, "b n d"], num_prefix_tokens: int) -> Float[Tensor, "b two d"]:
        return x[:, :2]


class AttentionPool(nn.Module):
    """One learned query attends to the patches; an MLP follows (Lee et al. 2019, "Set Transformer", §3.2; SigLIP).

    Its queries and its keys come from different tokens, so it has two projections where `Attention` has one.
    """

    def __init__(self, embed_dim: int, num_heads: int, hidden_dim: int, mlp: Callable[[int, int], nn.Module] = MLP):
        super().__init__()
        self.num_heads = num_heads
        self.latent = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.q = nn.Linear(embed_dim, embed_dim)
        self.kv = nn.Linear(embed_dim, 2 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
        self.norm = LayerNorm(embed_dim)
        self.mlp = mlp(embed_dim, hidden_dim)

    def init_weights(self) -> None:
        nn.init.trunc_normal_(self.latent, std=self.latent.shape[-1] ** -0.5)

    def forward(self, x: Float[Tensor, "b n d"], num_prefix_tokens: int) -> Float[Tensor, "b d"]:
        q = rearrange(self.q(self.latent.expand(x.shape[0], -1, -1)), "b n (h e) -> b h n e", h=self.num_heads)
        k, v = rearrange(self.kv(x[:, num_prefix_tokens:]), "b n (two h e) -> two b h n e", two=2, h=self.num_heads)
        x = self.proj(attend(q, k, v))
        return (x + self.mlp(self.norm(x)))[:, 0]
