"""Attention whose weights other numbers that sum to one mix: heads by a softmaxed matrix, content with positions by a
gate. What multiplies the values is shown; where it is not known which of two is attention, neither is."""

import pytest
import torch
from torch import nn

from handmade import Attention, Block, Plain
from tiny import redraw, see_attention
from vitral import explain
from vitral.base.errors import WatchError


class Mixing(Attention):
    """Keeps what multiplies its values in `used`."""

    def __init__(self):
        super().__init__()
        self.mix, self.gate = nn.Parameter(torch.zeros(3, 3)), nn.Parameter(torch.zeros(2, 3))
        self.place = nn.Parameter(torch.zeros(3, 7, 7))
        self.share = nn.Linear(12, 3)

    def forward(self, x):
        self.tokens = x
        return super().forward(x)

    def weights(self, q, k):
        self.used = self.mixed(super().weights(q, k), q, k)
        return self.used

    def mixed(self, weights, q, k):
        return weights


class LearnedFirst(Mixing):
    def mixed(self, weights, q, k):
        return (self.mix.softmax(-1)[:, :, None, None] * weights[:, None]).sum(2)


class LearnedLast(Mixing):
    def mixed(self, weights, q, k):
        return (weights[:, None] * self.mix.softmax(-1)[:, :, None, None]).sum(2)


class ByProduct(Mixing):
    def mixed(self, weights, q, k):
        return torch.einsum("gh,bhnm->bgnm", self.mix.softmax(-1), weights)


class Gated(Mixing):
    """Content and positions, with two shares of each head."""

    def mixed(self, weights, q, k):
        content, place = self.gate.softmax(0)[:, :, None, None]
        return content * weights + place * self.place.softmax(-1)


class Stacked(Mixing):
    """Head after head, stacked."""

    def weights(self, q, k):
        self.used = torch.stack([(q[:, head] @ k[:, head].mT / 2).softmax(-1) for head in range(3)], dim=1)
        return self.used


class HalfByPlace(Mixing):
    """The last head attends by the places of its tokens alone."""

    def mixed(self, weights, q, k):
        return torch.cat([weights[:, :2], self.place.softmax(-1)[2:].expand(len(q), -1, -1, -1)], dim=1)


class PerImage(Mixing):
    """The heads are mixed by shares that depend on the image."""

    def mixed(self, weights, q, k):
        shares = self.share(self.tokens.mean(1)).softmax(-1)
        return (shares[:, :, None, None] * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)


def model_of(kind):
    return redraw(type("Own", (Plain,), dict(block=lambda self: Block(kind)))())


@pytest.mark.parametrize("kind", [LearnedFirst, LearnedLast, ByProduct, Gated, Stacked, HalfByPlace])
@pytest.mark.parametrize("batch", [1, 3])
def test_what_multiplies_the_values_is_shown(kind, batch):
    model, images = model_of(kind), torch.randn(batch, 3, 16, 24)
    seen = see_attention(model, images)
    assert len(seen.layers) == 2
    for layer, block in zip(seen.layers, model.blocks):
        torch.testing.assert_close(layer.rows(range(7)), block.attention.used, rtol=0, atol=1e-6)
        assert layer.tokens.prefix == ("cls",) and layer.queries_are_keys
    for method in (explain.attention, explain.attention_gradient, explain.rollout):
        assert method(model, images).grid == (2, 3)


def test_of_two_weights_that_multiply_each_other_neither_is_shown():
    images = torch.randn(2, 3, 16, 24)
    with pytest.raises(WatchError, match="multiplied by other weights, value by value"):
        see_attention(model_of(PerImage), images)


def test_rollout_of_half_precision_is_multiplied_in_single_precision():
    model, images = model_of(Mixing).bfloat16(), torch.randn(2, 3, 16, 24, dtype=torch.bfloat16)
    seen = see_attention(model, images)
    row = torch.eye(7)[:1].expand(2, 1, 7)
    for layer in reversed(seen.layers):
        row = row / 2 + row @ layer.rows(range(7)).float().mean(1) / 2
    expected = row[:, 0, 1:] / row[:, 0, 1:].sum(-1, keepdim=True) * 6
    maps = torch.as_tensor(explain.rollout(model, images).values).reshape(2, 6)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
