"""Residual sums that are formed outside of the listed modules: no part of the stream is called the last block."""

import numpy as np
import pytest
import torch
from torch import nn

from handmade import Attention, Plain
from tiny import redraw
from vitral import explain


class Residual(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        return x + self.part(x)


def mlp():
    return nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))


def attention():
    return nn.Sequential(nn.LayerNorm(12), Attention(), nn.Dropout())


class Pairs(Plain):
    """A list of pairs, as in many tutorials: attention and MLP, summed in the model."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList([attention(), mlp()]) for _ in range(2))

    def through(self, x):
        for attend, feed in self.blocks:
            x = attend(x) + x
            x = feed(x) + x
        self.last = x
        return x

    def read(self, x):
        return self.head(x.mean(1))


class Wrapped(Pairs):
    """Sequential blocks of residual wrappers around Sequentials."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(Residual(attention()), Residual(mlp())) for _ in range(2))

    def through(self, x):
        for block in self.blocks:
            x = block(x)
        self.last = x
        return x


class Flat(Pairs):
    """One list in which attention and MLP take turns."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([attention(), mlp(), attention(), mlp()])

    def through(self, x):
        for part in self.blocks:
            x = x + part(x)
        self.last = x
        return x


class Normed(Pairs):
    """With a norm at the end, through which the stream is seen."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(12)

    def read(self, x):
        return self.head(self.norm(x).mean(1))


IMAGES = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def true_map(model, images, target=1):
    """Of the tokens that leave the last block, as they are in the model."""
    with torch.enable_grad():
        logits = model(images)
        (gradient,) = torch.autograd.grad(logits[:, target].sum(), model.last)
    tokens, slopes = model.last[:, 1:].detach(), gradient[:, 1:]
    found = (slopes.mean(1, keepdim=True) * tokens).sum(-1).clamp_min(0)
    return (found * found.shape[1] / found.sum(1, keepdim=True).clamp_min(1e-30)).unflatten(1, (2, 3)).numpy()


@pytest.mark.parametrize("kind", [Pairs, Wrapped, Flat, Normed])
def test_what_is_said_to_leave_the_last_block_is_what_leaves_it(kind):
    model = redraw(kind())
    found = explain.grad_cam(model, IMAGES, target=1)
    if "leaving the last block" in found.caption:
        assert np.allclose(found.values[:, 0, 0], true_map(model, IMAGES), atol=1e-4)
    assert ("leaving the last block" in found.caption) == (kind is Normed)
