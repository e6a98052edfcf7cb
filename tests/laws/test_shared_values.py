"""Heads that share values (Shazeer 2019, "Fast Transformer Decoding") are told from queries, in either order in which
they are merged for the product. And weights that are used twice, or side by side, are said to be."""

import pytest
import torch
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from tiny import see_attention
from vitral import explain
from vitral.base.errors import UsageError


class Shared(nn.Module):
    """4 heads in `groups`, each of which shares keys and values; `form` is how the product is written."""

    def __init__(self, groups: int, form: str, null_key: bool = False):
        super().__init__()
        self.groups, self.form = groups, form
        self.q, self.kv, self.proj = nn.Linear(16, 16), nn.Linear(16, 8 * groups), nn.Linear(16, 16)
        self.null = nn.Parameter(torch.randn(1, 1, 2, groups, 4)) if null_key else None
        self.true_weights = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q = self.q(x).view(b, n, self.groups, 4 // self.groups, 4)
        kv = self.kv(x).view(b, n, 2, self.groups, 4)
        kv = kv if self.null is None else torch.cat([self.null.expand(b, -1, -1, -1, -1), kv], 1)
        k, v = kv.unbind(2)
        weights = torch.einsum("bngre,bmge->bgrnm", q, k).softmax(-1)
        self.true_weights = weights.flatten(1, 2)
        if self.form == "heads first":
            out = torch.einsum("bgrnm,bmge->bngre", weights, v)
        elif self.form == "queries first":
            out = torch.einsum("bngrm,bmge->bngre", weights.permute(0, 3, 1, 2, 4).contiguous(), v)
        elif self.form == "folded":
            out = (weights.flatten(2, 3) @ v.permute(0, 2, 1, 3)).view(b, 4, n, 4).transpose(1, 2)
        else:
            last = self.true_weights.transpose(1, 2).contiguous()[..., None]
            out = (last * v[:, None, None, :, 0]).sum(3)
        return self.proj(out.flatten(2))


FORMS = [
    *((groups, form, False) for groups in (1, 2) for form in ("heads first", "queries first", "folded")),
    (1, "sum", False),
    (2, "heads first", True),
    (1, "queries first", True),
]


@pytest.mark.parametrize(("groups", "form", "null_key"), FORMS)
@pytest.mark.parametrize("batch", [1, 2])
def test_heads_that_share_values_are_told_from_queries(groups, form, null_key, batch):
    torch.manual_seed(0)
    model, images = made(ViT(lambda: Shared(groups, form, null_key))), torch.randn(batch, 3, 16, 16)
    seen = see_attention(model, images, rows="all")
    assert [(layer.num_heads, layer.num_queries) for layer in seen.layers] == [(4, 17)] * 2
    for layer, block in zip(seen.layers, model.blocks):
        torch.testing.assert_close(layer.weights(), block.true_weights.detach())
        if not null_key:
            assert layer.queries_are_keys
    if not null_key:
        assert explain.attention(model, images).reader == "CLS"


class Folded(Shared):
    """The heads stand beside the queries before there are weights."""

    def forward(self, x: Tensor) -> Tensor:
        q, (k, v) = self.q(x).view(*x.shape[:2], 4, 4), self.kv(x).chunk(2, -1)
        order = (0, 2, 1, 3) if self.form == "heads first" else (0, 1, 2, 3)
        q = q.permute(order)
        weights = (q.flatten(1, 2) @ k.mT).softmax(-1)
        self.true_weights = weights.unflatten(1, q.shape[1:3]).permute(order)  # (b, n, h, m)
        return self.proj((weights @ v).view(q.shape).permute(order).flatten(2))


@pytest.mark.parametrize("form", ["heads first", "queries first"])
def test_of_heads_beside_the_queries_the_readers_are_found(form):
    torch.manual_seed(0)
    model, images = made(ViT(lambda: Folded(1, form))), torch.randn(2, 3, 16, 16)
    maps = explain.attention(model, images)
    expected = model.blocks[-1].true_weights[:, 0].mean(1)[:, 1:].detach()
    found = torch.from_numpy(maps.merged).flatten(1)
    torch.testing.assert_close(found / found.sum(1, True), expected / expected.sum(1, True))


class Written(Attention):
    """The product is written into a tensor that was there before."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights, out = self.weights(q, k), torch.empty(v.shape)
        if self.training:
            return weights @ v
        torch.bmm(weights.flatten(0, 1), v.flatten(0, 1), out=out.flatten(0, 1))
        return out


@torch.no_grad()
def test_a_product_that_is_written_to_a_given_tensor_is_seen():
    model, images = made(ViT(Written)), torch.randn(2, 3, 16, 16)
    expected = see_attention(model.train(), images, rows="all")
    model.eval()
    seen = see_attention(model, images, rows="all")
    assert not seen.missed
    for layer, before in zip(seen.layers, expected.layers, strict=True):
        torch.testing.assert_close(layer.weights(), before.weights())


class Lazy(ViT):
    """The second layer uses the weights of the first (Ying et al. 2021, "LazyFormer")."""

    def through(self, x: Tensor) -> Tensor:
        weights = self.blocks[0].weights(*self.blocks[0].split(x)[:2])
        for block in self.blocks:
            x = x + block.proj((weights @ block.split(x)[2]).transpose(1, 2).flatten(2))
        return x


def test_weights_that_two_layers_use_are_said_to_be():
    model, images = made(Lazy()), torch.randn(2, 3, 16, 16)
    with pytest.raises(UsageError, match="it multiplies values twice"):
        explain.chefer(model, images)


class TwoAnswers(ViT):
    """One trunk, and two last blocks of which each gives an answer; the answers are added."""

    def read(self, x: Tensor) -> Tensor:
        first, second = self.blocks
        return self.head((x + first(x))[:, 0]) + self.head((x + second(x))[:, 1:].mean(1))

    def through(self, x: Tensor) -> Tensor:
        return x


def test_answers_that_are_added_do_not_make_two_layers_one():
    model, images = made(TwoAnswers()), torch.randn(2, 3, 16, 16)
    assert [layer.num_heads for layer in see_attention(model, images).layers] == [2, 2]
    with pytest.raises(UsageError, match="run side by side"):
        explain.rollout(model, images)
