"""Attention that is changed while it is watched changes the model as the same change of its weights would."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from peers import PEERS, peer
from tiny import redraw, see_attention
from vitral import watch
from vitral.base.errors import UsageError
from vitral.base.output import find_output
from vitral.recording.edits import without_edge, without_head, without_token


def nothing(layer, rows, queries):
    return rows


@pytest.mark.parametrize("name", PEERS)
@torch.no_grad()
def test_changing_nothing_changes_nothing(name):
    made = peer(name)
    images = made.images()
    plain = find_output(made.model, made.model(images), len(images)).tensor
    with watch(made.model, rows=[0], edit=nothing) as seen:
        edited = find_output(made.model, made.model(images), len(images)).tensor
    torch.testing.assert_close(edited, plain, atol=1e-5, rtol=1e-5)
    assert seen.layers


@torch.no_grad()
def test_a_head_left_out_is_its_part_of_the_projection_left_out(vit, images):
    with watch(vit, edit=without_head(1, 2)):
        edited = vit(images)
    vit.blocks[1].attn.proj.weight[:, 8:12] = 0
    torch.testing.assert_close(edited, vit(images), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_token_left_out_is_a_mask(vit, images, monkeypatch):
    with watch(vit, rows="all", edit=without_token(4)) as seen:
        edited = vit(images)
    for layer in seen.layers:
        assert (layer.weights()[..., 4] == 0).all()
        torch.testing.assert_close(layer.weights().sum(-1), torch.ones(2, 4, 7))
    kernel = F.scaled_dot_product_attention
    mask = torch.ones(7, dtype=torch.bool)
    mask[4] = False
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, attn_mask: kernel(q, k, v, attn_mask=mask[None])
    )
    torch.testing.assert_close(edited, vit(images), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("head", [None, 1])
@torch.no_grad()
def test_an_edge_left_out_is_a_mask_of_one_entry(vit, images, head, monkeypatch):
    with watch(vit, edit=without_edge(2, 0, 3, head)):
        edited = vit(images)
    kernel, calls = F.scaled_dot_product_attention, []

    def masked(q, k, v, attn_mask):
        mask = torch.ones(1, 4, 7, 7, dtype=torch.bool)
        if len(calls) == 2:
            mask[:, slice(None) if head is None else head, 0, 3] = False
        calls.append(None)
        return kernel(q, k, v, attn_mask=mask)

    plain = vit(images)
    monkeypatch.setattr(F, "scaled_dot_product_attention", masked)
    torch.testing.assert_close(edited, vit(images), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(edited, plain, atol=1e-5)


@torch.no_grad()
def test_some_layers_only(vit, images):
    seen = see_attention(vit, images, edit=without_token(4, layers=[0, 2]))
    gone = [bool((layer.weights()[..., 4] == 0).all()) for layer in seen.layers]
    assert gone == [True, False, True]


@pytest.mark.parametrize("average", [True, False])
@torch.no_grad()
def test_torchs_own_module_returns_the_changed_weights_if_it_returns_any(average):
    model = redraw(nn.MultiheadAttention(8, 2, batch_first=True))
    x = torch.randn(3, 5, 8)
    with watch(model, rows="all", edit=without_token(2)) as seen:
        out, weights = model(x, x, x, average_attn_weights=average)
    mine = seen.layers[0].weights()
    torch.testing.assert_close(weights, mine.mean(1) if average else mine)
    mask = torch.zeros(5, 5, dtype=torch.bool)
    mask[:, 2] = True
    torch.testing.assert_close(out, model(x, x, x, attn_mask=mask)[0])


def test_an_edited_model_still_learns(vit, images):
    """The change is in the graph: gradients flow through the weights that are left."""
    vit.zero_grad()
    with watch(vit, edit=without_token(4)):
        vit(images).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in vit.parameters())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without_head(99, 0), "no layer 99 to leave out: there are 3, 0 to 2"),
        (without_head(-1, 0), "no layer -1"),
        (without_head(0, 9), "no head 9 to leave out: there are 4, 0 to 3"),
        (without_token(1, [99]), "no layer 99"),
        (without_token(9), "no token 9 to leave out: there are 7, 0 to 6"),
        (without_edge(99, 0, 1), "no layer 99"),
        (without_edge(0, 999, 1), "no token 999"),
        (without_edge(0, 1, 999), "no token 999"),
        (without_head(0, 4), "no head 4 to leave out: there are 4, 0 to 3"),
        (without_token(7), "no token 7 to leave out: there are 7, 0 to 6"),
        (without_edge(0, 0, 9), "no token 9"),
        (without_edge(0, 0, 1, head=-1), "no head -1"),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("rows", ["prefix", "all"])
@torch.no_grad()
def test_what_does_not_exist_cannot_be_left_out(vit, images, edit, message, rows):
    with pytest.raises(UsageError, match=message), watch(vit, rows=rows, edit=edit):
        vit(images)
