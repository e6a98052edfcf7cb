"""A ViT as a reader writes it, whose steps a test can change."""

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, width=16, heads=2, dropout=0.0):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-3, -2)
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
        self.weights = weights = self.drop(weights)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class OwnViT(nn.Module):
    """A ViT of a reader's own, 4 x 4 patches of 16 x 16 pixels and a class token; tests override its steps.

    Each block keeps the weights that multiplied the values.
    """

    def __init__(self, depth=2, dropout=0.0):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.cls, self.position = nn.Parameter(torch.zeros(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
        self.blocks = nn.ModuleList(Attention(dropout=dropout) for _ in range(depth))
        self.head = nn.Linear(16, 5)

    def before(self, images):
        return images

    def enter(self, tokens):
        return tokens

    def run(self, block, tokens):
        return block(tokens)

    def answer(self, cls):
        return self.head(cls)

    def forward(self, images):
        x = self.patches(self.before(images)).flatten(2).transpose(1, 2)
        x = self.enter(torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.position)
        for block in self.blocks:
            x = x + self.run(block, x)
        return self.answer(x[:, 0])
