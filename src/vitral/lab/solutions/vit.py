"""Station 8: the whole Vision Transformer.

    images ── patch_embed ──> patches ── cls_token, pos_embed ──> tokens
    tokens ── block ── block ── ... ── norm ──> tokens[:, 0] ── head ──> logits

You have all the parts. The model puts them in a row: patches, the class token and positions, `depth` blocks, a last
norm, and a linear head that takes the class token alone.

Names matter: trained weights are loaded by the names of your parts. Call them `patch_embed`, `cls_token`, `pos_embed`,
`blocks` (an nn.ModuleList), `norm` and `head`, and published weights will fit. `cls_token` (1, 1, d) and `pos_embed`
(1, n + 1, d) are nn.Parameter, both random with standard deviation 0.02: `torch.randn(...) * 0.02`. n is rows x columns
of `patch_embed.grid`. The hidden width of an MLP is int(d x mlp_ratio).

Before you write: the head takes the class token alone. How do the patches influence the logits?
    a  through attention, in every block        b  they are added to it at the end        c  through the MLPs
"""

import torch
from torch import Tensor, nn

from vitral.lab.solutions.block import Block
from vitral.lab.solutions.embedding import PatchEmbedding
from vitral.lab.solutions.feed_forward import MLP, LayerNorm
from vitral.lab.solutions.heads import Attention
from vitral.lab.solutions.tokens import with_tokens

prediction = ""  # "a", "b" or "c"


class VisionTransformer(nn.Module):
    """Images (b, in_channels, img_size, img_size) -> logits (b, num_classes)."""

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        in_channels: int,
        num_classes: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
    ):
        super().__init__()
        # Yours: patch_embed, cls_token, pos_embed, blocks, norm, head.
        self.patch_embed = PatchEmbedding(img_size, patch_size, in_channels, embed_dim)
        rows, columns = self.patch_embed.grid
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, rows * columns + 1, embed_dim))
        self.blocks = nn.ModuleList(
            Block(Attention(embed_dim, num_heads), MLP(embed_dim, int(embed_dim * mlp_ratio)), embed_dim)
            for _ in range(depth)
        )
        self.norm = LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        # Yours: from images to logits.
        x = with_tokens(self.patch_embed(images), self.cls_token, self.pos_embed)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])
