"""Station 8: the whole Vision Transformer.

    images ── patch_embed ──> patches ── cls_token, pos_embed ──> tokens
    tokens ── block ── block ── ... ── norm ──> tokens[:, 0] ── head ──> logits

Everything is there. The model puts it in a row: patches, the class token and positions, `depth` blocks, a last norm,
and a linear head that reads the class token alone.

Names are part of the work: a trained model's weights are found by the names of your parts. Call them `patch_embed`,
`cls_token`, `pos_embed`, `blocks` (an nn.ModuleList), `norm` and `head`, and the published ones will fit.
`cls_token` (1, 1, d) and `pos_embed` (1, n + 1, d) are nn.Parameter, both random with deviation 0.02:
`torch.randn(...) * 0.02`. n is rows x columns of `patch_embed.grid`. An MLP's hidden width is int(d x mlp_ratio).

Before you write: the head reads the class token alone. How do the patches come to matter?
    a  through attention, in every block        b  they are added to it at the end        c  through the MLPs
"""

import torch
from block import Block
from embedding import PatchEmbedding
from feed_forward import MLP, LayerNorm
from heads import Attention
from tokens import with_tokens
from torch import Tensor, nn

prediction = "a"  # "a", "b" or "c"


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
        self.patch_embed = PatchEmbedding(img_size, patch_size, in_channels, embed_dim)
        rows, columns = self.patch_embed.grid
        n = rows * columns
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, n + 1, embed_dim) * 0.02)

        hidden = int(embed_dim * mlp_ratio)
        blocks = []
        for _ in range(depth):
            attn = Attention(embed_dim, num_heads)
            mlp = MLP(embed_dim, hidden)
            blocks.append(Block(attn, mlp, embed_dim))
        self.blocks = nn.ModuleList(blocks)

        self.norm = LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)
        x = with_tokens(x, self.cls_token, self.pos_embed)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0])
