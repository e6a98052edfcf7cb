"""Heads are stacked before the batch (head 0 of all images, head 1, ...) but taken apart as if the batch came first.
Shows for batches of two or more with two or more heads; one image or one head is right."""

import torch
from head import attention
from torch import Tensor, nn


class Attention(nn.Module):
    """Tokens (b, n, embed_dim) -> tokens (b, n, embed_dim)."""

    def __init__(self, embed_dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, embed_dim * 3)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        e = d // self.num_heads
        q, k, v = (torch.cat(part.split(e, dim=2), dim=0) for part in self.qkv(x).chunk(3, dim=2))
        out, _ = attention(q, k, v)  # every head is one more "image": (heads * b, n, e)
        out = out.reshape(b, self.num_heads, n, e).transpose(1, 2)
        return self.proj(out.reshape(b, n, d))
