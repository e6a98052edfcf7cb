"""The positions are a buffer, not a parameter: they are saved and loaded by the right name but never trained.
Shows in named_parameters() and in training; the logits of loaded weights are right."""

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
        places = self.patch_embed.grid[0] * self.patch_embed.grid[1] + 1
        self.cls_token = nn.Parameter(torch.normal(0.0, 0.02, (1, 1, embed_dim)))
        self.register_buffer("pos_embed", torch.normal(0.0, 0.02, (1, places, embed_dim)))
        blocks = []
        for _ in range(depth):
            attn = Attention(embed_dim, num_heads)
            mlp = MLP(embed_dim, int(embed_dim * mlp_ratio))
            blocks.append(Block(attn, mlp, embed_dim))
        self.blocks = nn.ModuleList(blocks)
        self.norm = LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        stream = with_tokens(self.patch_embed(images), self.cls_token, self.pos_embed)
        for block in self.blocks:
            stream = block(stream)
        return self.head(self.norm(stream)[:, 0, :])
