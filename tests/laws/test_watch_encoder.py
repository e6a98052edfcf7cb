"""`watch` sees `nn.TransformerEncoder`, whose fast path in eval mode would otherwise pass everything by."""

import pytest
import torch
from torch import nn

from tiny import redraw, see_attention
from vitral import watch

TOKENS, WIDTH, HEADS = 10, 12, 2


def encoder(norm_first, nested=False):
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 20, batch_first=True, norm_first=norm_first)
    return redraw(nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested), deviation=0.4)


def by_hand(model, x, padding=None):
    """Layer after layer; of each, the weights that its attention returns when it is asked."""
    weights = []
    for layer in model.layers:
        inside = layer.norm1(x) if layer.norm_first else x
        asked = dict(need_weights=True, average_attn_weights=False)
        weights.append(layer.self_attn(inside, inside, inside, padding, **asked)[1])
        x = layer(x, src_key_padding_mask=padding)
    return weights


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("grad", [True, False], ids=["with gradients", "fast path"])
def test_an_encoder_is_seen_layer_by_layer(norm_first, grad):
    model, x = encoder(norm_first), torch.randn(2, TOKENS, WIDTH)
    with torch.set_grad_enabled(grad):
        plain, expected = model(x), by_hand(model, x)
        with watch(model, rows="all") as seen:
            watched = model(x)
    torch.testing.assert_close(watched, plain, rtol=0, atol=1e-5)
    assert [layer.name for layer in seen.layers] == ["layers.0.self_attn", "layers.1.self_attn"]
    for layer, weights in zip(seen.layers, expected, strict=True):
        assert weights.std() > 0.03
        torch.testing.assert_close(layer.weights(), weights, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")  # PyTorch's own fast path says so
@torch.no_grad()
def test_a_padded_encoder_is_seen_through_its_nested_tensors():
    model, x = encoder(norm_first=False, nested=True), torch.randn(2, TOKENS, WIDTH)
    padding = torch.zeros(2, TOKENS, dtype=torch.bool)
    padding[1, 6:] = True
    plain, expected = model(x, src_key_padding_mask=padding), by_hand(model, x, padding)
    with watch(model, rows=[0, 5]) as seen:
        watched = model(x, src_key_padding_mask=padding)
    torch.testing.assert_close(watched[~padding], plain[~padding], rtol=0, atol=1e-5)
    torch.testing.assert_close(seen.layers[0].rows([0, 5]), expected[0][:, :, [0, 5]], rtol=0, atol=1e-5)
    assert seen.layers[0].rows([0])[1, :, 0, 6:].abs().max() == 0


@torch.no_grad()
def test_a_decoders_two_kinds_of_attention_are_told_apart():
    layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 20, batch_first=True)
    model = redraw(nn.TransformerDecoder(layer, 2))
    x, memory = torch.randn(2, 5, WIDTH), torch.randn(2, 7, WIDTH)
    seen = see_attention(model, x, memory)
    kinds = ("self_attn", "multihead_attn")
    assert [layer.name for layer in seen.layers] == [f"layers.{number}.{kind}" for number in (0, 1) for kind in kinds]
    assert [layer.weights().shape[-2:] for layer in seen.layers] == [(5, 5), (5, 7)] * 2
