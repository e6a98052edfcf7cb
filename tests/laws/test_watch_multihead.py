"""`watch` sees `nn.MultiheadAttention`: what it sees is what the module itself returns when asked for weights."""

import math

import pytest
import torch
from torch import nn

from tiny import redraw
from vitral import watch

BATCH, HEADS, TOKENS, WIDTH = 2, 3, 10, 12
CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4e-2}
GENERATOR = torch.Generator().manual_seed(0)
BARRED = torch.rand(TOKENS, TOKENS, generator=GENERATOR) > 0.6
BARRED.fill_diagonal_(False)
EACH = torch.rand(BATCH * HEADS, TOKENS, TOKENS, generator=GENERATOR) > 0.6
EACH[:, torch.arange(TOKENS), torch.arange(TOKENS)] = False
PADDED = torch.zeros(BATCH, TOKENS, dtype=torch.bool)
PADDED[0, 7:], PADDED[1, 1:3] = True, True


def numbers(*shape):
    return torch.randn(shape, generator=GENERATOR)


MASKS = {
    "plain": {},
    "padding": dict(key_padding_mask=PADDED),
    "padding in numbers": dict(key_padding_mask=numbers(BATCH, TOKENS)),
    "boolean mask": dict(attn_mask=BARRED),
    "float mask": dict(attn_mask=numbers(TOKENS, TOKENS)),
    "boolean mask for each head": dict(attn_mask=EACH),
    "float mask for each head": dict(attn_mask=numbers(BATCH * HEADS, TOKENS, TOKENS)),
    "boolean mask and padding": dict(attn_mask=BARRED & ~torch.eye(TOKENS, dtype=torch.bool), key_padding_mask=PADDED),
    "float mask for each head and padding": dict(
        attn_mask=numbers(BATCH * HEADS, TOKENS, TOKENS),
        key_padding_mask=torch.zeros(BATCH, TOKENS).masked_fill(PADDED, -math.inf),
    ),
}
MASKS["boolean mask and padding"]["attn_mask"][:, 0] = False  # no query is left without a key
causal = torch.triu(torch.ones(TOKENS, TOKENS, dtype=torch.bool), 1)
MASKS["causal"] = dict(attn_mask=causal, is_causal=True)


class Asks(nn.Module):
    """A model whose attention is PyTorch's own module."""

    num_prefix_tokens = 1

    def __init__(self, batch_first=True, need_weights=False, **how):
        super().__init__()
        self.mha = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first, **how)
        self.need_weights = need_weights

    def forward(self, q, k, v, **masks):
        return self.mha(q, k, v, need_weights=self.need_weights, **masks)[0]


def check(model, q, k, v, dtype=torch.float32, **masks):
    model = redraw(model, deviation=0.4).to(dtype)
    q, k, v = (x.to(dtype) for x in (q, k, v))
    masks = {
        name: mask.to(dtype) if isinstance(mask, torch.Tensor) and mask.dtype != torch.bool else mask
        for name, mask in masks.items()
    }
    expected = model.mha(q, k, v, need_weights=True, average_attn_weights=False, **masks)[1]
    expected = expected if q.ndim == 3 else expected[None]
    plain = model(q, k, v, **masks)
    with watch(model, rows="all") as seen:
        watched = model(q, k, v, **masks)
    # without gradients the module takes another kernel when nobody watches
    torch.testing.assert_close(watched, plain, rtol=0, atol=CLOSE[dtype] * plain.abs().max().item())
    (layer,) = seen.layers
    assert layer.name == "mha"
    assert expected.std() > 0.03
    torch.testing.assert_close(layer.weights().double(), expected.double(), rtol=0, atol=CLOSE[dtype])
    torch.testing.assert_close(layer.weights().sum(-1), torch.ones_like(layer.weights()[..., 0]))
    assert layer.residual <= CLOSE[dtype]
    with watch(model) as seen:
        model(q, k, v, **masks)
    torch.testing.assert_close(seen.layers[0].rows([0]), layer.rows([0]))


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@torch.no_grad()
def test_masks_are_read_as_the_module_reads_them(masks, dtype):
    x = torch.randn(BATCH, TOKENS, WIDTH)
    check(Asks(), x, x, x, dtype, **masks)


@pytest.mark.parametrize("grad", [True, False], ids=["with gradients", "without"])
@pytest.mark.parametrize("need_weights", [True, False], ids=["asked for weights", "not asked"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "batch second"])
def test_self_attention_is_seen_however_it_is_called(batch_first, need_weights, grad):
    x = torch.randn(BATCH, TOKENS, WIDTH) if batch_first else torch.randn(TOKENS, BATCH, WIDTH)
    with torch.set_grad_enabled(grad):
        check(Asks(batch_first, need_weights), x, x, x)


@pytest.mark.parametrize("how", [{}, dict(kdim=5, vdim=7), dict(bias=False)], ids=["alike", "kdim and vdim", "no bias"])
@torch.no_grad()
def test_cross_attention_is_seen(how):
    queries, keys = torch.randn(BATCH, TOKENS, WIDTH), torch.randn(BATCH, 6, how.get("kdim", WIDTH))
    check(Asks(**how), queries, keys, torch.randn(BATCH, 6, how.get("vdim", WIDTH)))


@pytest.mark.parametrize(
    "masks",
    [{}, dict(key_padding_mask=PADDED[0]), dict(attn_mask=BARRED), dict(attn_mask=EACH[:HEADS])],
    ids=["plain", "padding", "mask", "mask for each head"],
)
@torch.no_grad()
def test_a_single_sequence_is_a_batch_of_one(masks):
    x = torch.randn(TOKENS, WIDTH)
    check(Asks(), x, x, x, **masks)
