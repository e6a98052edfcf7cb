"""Weights that are formed at once and multiply values part by part: one layer, with all heads and all queries."""

import numpy as np
import pytest
import torch

from handmade import Attention, Plain, made
from tiny import redraw, see_attention
from vitral import explain
from vitral.recording.intercept import NothingSeen

HEADS, TOKENS = 3, 7
LOOPS = {
    "heads, stacked": lambda a, v: torch.stack([a[:, head] @ v[:, head] for head in range(HEADS)], 1),
    "heads, unbound": lambda a, v: torch.stack([one @ own for one, own in zip(a.unbind(1), v.unbind(1))], 1),
    "heads, joined": lambda a, v: torch.cat([a[:, head] @ v[:, head] for head in range(HEADS)], -1),
    "chunks of queries": lambda a, v: torch.cat([chunk @ v for chunk in a.split(3, 2)], 2),
    "at once": lambda a, v: a @ v,
}
ROW_BY_ROW = {
    "weights first": lambda a, v, i, h, t: a[i, h, t] @ v[i, h],
    "values first": lambda a, v, i, h, t: v[i, h].T @ a[i, h, t],
    "a matrix and a vector": lambda a, v, i, h, t: torch.mv(v[i, h].T, a[i, h, t]),
}


class Looped(Attention):
    def __init__(self, loop):
        super().__init__()
        self.loop, self.truth = loop, None

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
        weights = self.weights(q, k)
        self.truth = weights.detach()
        out = self.loop(weights, v)
        return out if out.ndim == 3 else out.transpose(1, 2).flatten(2)


class LoopedViT(Plain):
    def __init__(self, loop):
        super().__init__()
        for block in self.blocks:
            block.attention = Looped(loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_parts_are_one_layer(loop, batch):
    model = made(LoopedViT, LOOPS[loop])
    seen = see_attention(model, torch.randn(batch, 3, 16, 24))
    assert not seen.missed
    for layer, block in zip(seen.layers, model.blocks, strict=True):
        assert torch.equal(layer.weights(), block.attention.truth)
        assert layer.tokens.grid == (2, 3) and not layer.further_uses


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("method", ["rollout", "chefer", "attention_gradient"])
def test_maps_are_those_of_one_product(loop, method):
    images = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    given = {} if method == "rollout" else {"target": 1}
    one, other = (getattr(explain, method)(made(LoopedViT, LOOPS[name]), images, **given) for name in (loop, "at once"))
    assert np.allclose(one.values, other.values, atol=1e-5)


@pytest.mark.parametrize("product", ROW_BY_ROW)
def test_row_by_row_is_refused_with_the_way_out(product):
    def loop(a, v):
        rows = [
            torch.stack(
                [torch.stack([ROW_BY_ROW[product](a, v, i, h, t) for t in range(TOKENS)]) for h in range(HEADS)]
            )
            for i in range(len(a))
        ]
        return torch.stack(rows)

    with pytest.raises(NothingSeen, match="one query of one head at a time: multiply all queries at once"):
        see_attention(made(LoopedViT, loop), torch.randn(2, 3, 16, 24))


def test_the_same_part_twice_is_no_further_head():
    def loop(a, v):
        return torch.stack([a[:, head] @ v[:, head] for head in (0, 1, 1)], 1)

    seen = see_attention(made(LoopedViT, loop), torch.randn(2, 3, 16, 24))
    assert any("it multiplies values twice" in str(one) for one in seen.missed)


class Grouped(Attention):
    """Grouped queries as einsum has them: the heads of a group share a key and a value."""

    def __init__(self):
        super().__init__()
        self.truth = None

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 6, 2)).permute(2, 0, 3, 1, 4)
        queries = q.unflatten(1, (2, 3))  # (b, g, h, n, e)
        scores = torch.einsum("bghne,bhme->bghnm", queries, k[:, :3])
        weights = scores.softmax(-1)
        self.truth = weights.flatten(1, 2).detach()
        out = torch.einsum("bghnm,bhme->bghne", weights, v[:, :3]).flatten(1, 2)
        return out.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_heads_are_numbered_along_the_axes_of_the_weights(batch):
    model = Plain()
    for block in model.blocks:
        block.attention = Grouped()
    seen = see_attention(redraw(model), torch.randn(batch, 3, 16, 24))
    for layer, block in zip(seen.layers, model.blocks, strict=True):
        assert torch.allclose(layer.weights(), block.attention.truth)
        assert layer.tokens.grid == (2, 3)
