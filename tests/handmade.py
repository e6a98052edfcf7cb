"""A small ViT as readers write it, whose parts tests replace by others."""

import torch
from torch import nn

from tiny import redraw


class Attention(nn.Module):
    """The product written out."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(12, 36)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
        return (self.weights(q, k) @ v).transpose(1, 2).flatten(2)

    def weights(self, q, k):
        return (q @ k.mT / 2).softmax(-1)


class Block(nn.Module):
    def __init__(self, attention=Attention):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(12), attention()
        self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x)


class Plain(nn.Module):
    """CLS, and patches of 8 x 8 pixels of an image of `size`; two blocks in a list."""

    word = "cls_token"  # its learned token's name

    def __init__(self, size=(16, 24), classes=5):
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 8, 8)
        setattr(self, self.word, nn.Parameter(torch.zeros(1, 1, 12)))
        self.place = nn.Parameter(torch.zeros(1, size[0] * size[1] // 64 + 1, 12))
        self.blocks, self.head = nn.ModuleList(self.block() for _ in range(2)), nn.Linear(12, classes)

    def block(self):
        return Block()

    def embedded(self, images):
        x = self.patch(images).flatten(2).mT
        return torch.cat([getattr(self, self.word).expand(len(x), -1, -1), x], 1) + self.place

    def through(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    def read(self, x):
        return self.head(x[:, 0])

    def forward(self, images):
        return self.read(self.through(self.embedded(images)))


def made(kind, *args):
    return redraw(kind(*args))
