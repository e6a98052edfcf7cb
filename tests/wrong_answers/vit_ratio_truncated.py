"""The MLP's hidden width is embed_dim x int(mlp_ratio): the ratio is cut to a whole number first.
Shows for fractional ratios (2.5, 8 / 3, 0.5); whole ones are right."""

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
        rows, cols = self.patch_embed.grid
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + rows * cols, embed_dim))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            mlp = MLP(embed_dim, embed_dim * int(mlp_ratio))
            self.blocks.append(Block(Attention(embed_dim, num_heads), mlp, embed_dim))
        self.norm = LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)
        x = with_tokens(x, self.cls_token, self.pos_embed)
        for block in self.blocks:
            x = block(x)
        cls = x[:, 0]
        return self.head(self.norm(cls))
