"""`[Block(...)] * depth` puts one block into the list `depth` times: all blocks share their weights.
Shows for depth > 1 in the number of parameters and after loading weights; depth 1 is right."""

import torch
from block import Block
from embedding import PatchEmbedding
from feed_forward import MLP, LayerNorm
from heads import Attention
from tokens import with_tokens
from torch import Tensor, nn


class VisionTransformer(nn.Module):
    """Images (b, in_channels, img_size, img_size) -> logits (b, num_classes)."""

    def __init__(self, img_size, patch_size, in_channels, num_classes, embed_dim, depth, num_heads, mlp_ratio):
        super().__init__()
        self.patch_embed = PatchEmbedding(img_size, patch_size, in_channels, embed_dim)
        n = self.patch_embed.grid[0] * self.patch_embed.grid[1]
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, n + 1, embed_dim) * 0.02)
        hidden = int(embed_dim * mlp_ratio)
        self.blocks = nn.ModuleList([Block(Attention(embed_dim, num_heads), MLP(embed_dim, hidden), embed_dim)] * depth)
        self.norm = LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = with_tokens(self.patch_embed(images), self.cls_token, self.pos_embed)
        for layer in self.blocks:
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        return self.head(tokens[:, 0])
