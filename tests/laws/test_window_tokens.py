"""Tokens of a window that hold no patch are no padding unless they stand on the sides of the image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from plain_vit import Attention, NullKey, ViT, made
from tiny import see_attention
from vitral import explain
from vitral.base.errors import UsageError


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Windowed(ViT):
    """Four windows of 2 x 2 patches, each behind `count` tokens of its own."""

    def __init__(self, count: int, attention: type = Attention, depth: int = 2):
        super().__init__(attention, depth, has_cls=False)
        self.own = nn.Parameter(torch.randn(1, count, 16))

    def tokens(self, images: Tensor) -> Tensor:
        x = rearrange(super().tokens(images), "b (y p x q) d -> (b y x) (p q) d", y=2, x=2, p=2)
        return torch.cat([self.own.expand(len(x), -1, -1), x], 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.through(self.tokens(images))
        return self.head(self.pooled(rearrange(x, "(b w) n d -> b w n d", w=4)))

    def pooled(self, x: Tensor) -> Tensor:
        return x[:, :, 0].mean(1)


class Messengers(Windowed):
    """The windows' tokens exchange parts of themselves (Fang et al. 2022, "MSG-Transformer", §3.2)."""

    def through(self, x: Tensor) -> Tensor:
        count = self.own.shape[1]
        for block in self.blocks:
            x = x + block(x)
            own = rearrange(x[:, :count], "(b w) c (v d) -> (b v) c (w d)", w=4, v=4)
            x = torch.cat([own, x[:, count:]], 1)
        return x


class Prompted(Windowed):
    """New tokens for each block and window (Jia et al. 2022, "Visual Prompt Tuning", §3.2)."""

    def through(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = torch.cat([self.own.expand(len(x), -1, -1), x[:, self.own.shape[1] :]], 1)
            x = x + block(x)
        return x

    def pooled(self, x: Tensor) -> Tensor:
        return x[:, :, self.own.shape[1] :].mean((1, 2))


class Behind(Windowed):
    def tokens(self, images: Tensor) -> Tensor:
        return super().tokens(images).flip(1)

    def pooled(self, x: Tensor) -> Tensor:
        return x[:, :, -1].mean(1)


class Mean(Windowed):
    def pooled(self, x: Tensor) -> Tensor:
        return x.mean((1, 2))


@pytest.mark.parametrize(
    "model",
    [Messengers(1), Messengers(2), Messengers(1, depth=1), Prompted(1), Prompted(3), Behind(1), Mean(0, NullKey)],
)
def test_a_token_for_each_window_is_no_padding(model, images):
    for layer in see_attention(made(model), images).layers:
        with pytest.raises(UsageError, match="no patch and no padding"):
            _ = layer.tokens
    for method in (explain.attention, explain.attention_gradient):
        with pytest.raises(UsageError, match="no patch and no padding"):
            method(model, images)


class Padded(ViT):
    """3 x 3 patches, padded to four windows of 2 x 2; `tokens` writes this without a function that pads."""

    def tokens(self, images: Tensor) -> Tensor:
        x = self.patch(images)[:, :, :3, :3].flatten(2).mT.unflatten(1, (3, 3))
        x = torch.cat([x, x.new_zeros(len(x), 3, 1, 16)], 2)
        x = torch.cat([x, x.new_zeros(len(x), 1, 4, 16)], 1)
        return rearrange(x, "b (y p) (x q) d -> (b y x) (p q) d", p=2, q=2)

    def read(self, x: Tensor) -> Tensor:
        return self.head(rearrange(x, "(b w) n d -> b (w n) d", w=4).mean(1))


def test_padding_is_seen_without_knowing_how_it_was_made():
    images = torch.randn(2, 3, 12, 12)
    layers = see_attention(made(Padded(has_cls=False)), images).layers
    places = [[0, 1, 3, 4], [2, -1, 5, -1], [6, 7, -1, -1], [8, -1, -1, -1]]
    assert all(sorted(layer.windows.places.tolist()) == sorted(places) for layer in layers)
    assert explain.attention(made(Padded(has_cls=False)), images).grid == (3, 3)


class Hidden(Attention):
    """Padding is hidden by a mask of finite numbers, as in Swin."""

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        real = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]).repeat(len(q) // 4, 1)
        return (q @ k.mT / 3 - 100.0 * (1 - real[:, None, None])).softmax(-1)


class Sided(Padded):
    """Padded at the top and at the left."""

    def tokens(self, images: Tensor) -> Tensor:
        x = self.patch(images)[:, :, :3, :3].permute(0, 2, 3, 1)
        x = torch.cat([x.new_zeros(len(x), 3, 1, 16), x], 2)
        x = torch.cat([x.new_zeros(len(x), 1, 4, 16), x], 1)
        return rearrange(x, "b (y p) (x q) d -> (b y x) (p q) d", p=2, q=2)


class Again(Padded):
    """Pads and cuts in each block, by functions that do so, as Swin does."""

    def tokens(self, images: Tensor) -> Tensor:
        return self.patch(images)[:, :, :3, :3].permute(0, 2, 3, 1)

    def through(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            y = rearrange(F.pad(x, (0, 0, 0, 1, 0, 1)), "b (y p) (x q) d -> (b y x) (p q) d", p=2, q=2)
            x = x + rearrange(block(y), "(b y x) (p q) d -> b (y p) (x q) d", y=2, x=2, p=2)[:, :3, :3]
        return x

    def read(self, x: Tensor) -> Tensor:
        return self.head(x.mean((1, 2)))


@pytest.mark.parametrize(
    ("kind", "attention"),
    [(Padded, Attention), (Sided, Attention), (Again, Attention), (Padded, Hidden), (Again, Hidden)],
)
def test_the_share_of_attention_on_padding_is_stated(kind, attention, images):
    images = images[:, :, :12, :12]
    model = made(kind(attention, has_cls=False))
    maps, layers = explain.attention(model, images), see_attention(model, images).layers
    for number, layer in enumerate(layers):
        real = (layer.windows.places >= 0).float()
        rows = layer.weights().unflatten(0, (2, 4))  # (b, w, h, q, k)
        share = torch.einsum("bwhqk,wq,wk->bh", rows, real, 1 - real) / 9
        np.testing.assert_allclose(maps.prefix_mass[:, number], share, atol=1e-6)
    padded = attention is Attention
    assert ("is on the padding of its windows" in maps.caption) == padded == bool(maps.mass_label(0))
    maps = explain.attention_gradient(model, images)
    assert ("is on the padding of its windows" in maps.caption) == padded == bool(maps.prefix_mass.any())


def test_the_share_of_one_query_is_that_of_its_window(images):
    images = images[:, :, :12, :12]
    model = made(Padded(has_cls=False))
    shares = [
        explain.attention(model, images, layers=[0], query=place).prefix_mass[0].mean() for place in ((0, 0), (2, 2))
    ]
    assert shares[0] == 0 < shares[1] < 1
