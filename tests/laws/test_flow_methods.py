"""Rollout and gradient-weighted attention are what their papers' formulas say, written out with whole matrices."""

import numpy as np
import pytest
import torch
from torch import nn

from tiny import redraw, see_attention, tiny_vit
from vitral import explain
from vitral.base.errors import UsageError, WatchError
from vitral.explain.flow import carry, weights_and_gradients
from vitral.explain.observation import observe
from vitral.explain.untrained_twin import untrained_twin
from vitral.nn.attention import Attention
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.family.pool import MeanPool
from vitral.recording import layers as layers_module


class Explicit(Attention):
    """The same equation with its weights formed, kept in the graph."""

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        self.weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        if self.weights.requires_grad:
            self.weights.retain_grad()
        return self.proj((self.weights @ v).transpose(1, 2).flatten(2))


def explicit_twin(model, **parts):
    twin = tiny_vit(mixer=Explicit, tokens=model.config["tokens"], **parts)
    twin.load_state_dict(model.state_dict())
    return twin.double()


def matrices(model, images, target=None):
    """Weights, and their gradients for a class, from autograd through the explicit equation."""
    twin = explicit_twin(model)
    logits = twin(images.double())
    chosen = logits.argmax(1) if target is None else torch.full((len(images),), target)
    logits.gather(1, chosen[:, None]).sum().backward()
    attentions = [block.attn for block in twin.blocks]
    return [(attn.weights.detach(), attn.weights.grad) for attn in attentions]


def times_uniform(row, prefix):
    patches = row[:, prefix:]
    return (patches * patches.shape[1] / patches.sum(1, keepdim=True)).numpy()


TOKENS = pytest.mark.parametrize("tokens", [{"cls_token": 1}, {"cls_token": 1, "reg_token": 2}], ids=str)


@TOKENS
@pytest.mark.parametrize("chunk", [1, 30, 2**22])
def test_rollout_is_the_product_of_the_mixed_matrices(tokens, chunk, images, monkeypatch):
    monkeypatch.setattr(layers_module, "CHUNK", chunk)
    model = tiny_vit(tokens=tokens).double()
    maps = explain.rollout(model, images.double())
    whole = torch.eye(6 + sum(tokens.values()), dtype=torch.float64)
    for weights, _ in matrices(model, images):
        whole = (weights.mean(1) / 2 + torch.eye(weights.shape[-1]) / 2) @ whole
    torch.testing.assert_close(whole.sum(-1), torch.ones_like(whole[..., 0]))
    expected = times_uniform(whole[:, 0], sum(tokens.values()))
    np.testing.assert_allclose(maps.values.reshape(2, -1), expected, rtol=1e-6)
    np.testing.assert_allclose(maps.prefix_mass[:, 0, 0], whole[:, 0, : sum(tokens.values())].sum(-1), rtol=1e-6)


def test_rollout_of_a_long_sequence_is_exact():
    """At 197 tokens, in double precision, to 1e-10."""
    model = tiny_vit(img_size=(56, 84), patch_size=(4, 6), mixer=QKNormAttention).double()
    images = torch.randn(1, 3, 56, 84, dtype=torch.float64)
    seen = see_attention(model, images)
    assert seen.layers[0].num_tokens == 197
    row = torch.eye(197, dtype=torch.float64)[:1]
    for layer in reversed(seen.layers):
        row = row / 2 + carry(layer, row, layer.chunks()) / 2
    whole = torch.eye(197, dtype=torch.float64)
    for layer in seen.layers:
        whole = (layer.weights().mean(1) / 2 + torch.eye(197) / 2) @ whole
    assert (row - whole[:, 0]).abs().max() < 1e-10


def test_rollout_where_nothing_stays_or_all_stays(vit, images):
    weights = [w for w, _ in matrices(vit, images)]
    only = weights[2].mean(1) @ weights[1].mean(1) @ weights[0].mean(1)
    moved = explain.rollout(vit, images, stays=0.0)
    np.testing.assert_allclose(moved.values.reshape(2, -1), times_uniform(only[:, 0], 1), rtol=1e-4)
    assert (explain.rollout(vit, images, stays=1.0).prefix_mass == 1).all()
    last = explain.rollout(vit, images, stays=0.0, first=2)
    np.testing.assert_allclose(last.values.reshape(2, -1), times_uniform(weights[2].mean(1)[:, 0], 1), rtol=1e-4)


@pytest.mark.parametrize("wrong", [dict(stays=-0.1), dict(stays=1.1), dict(first=3), dict(first=-1)], ids=str)
def test_rollout_refuses_what_is_no_share_or_no_layer(vit, images, wrong):
    with pytest.raises(UsageError):
        explain.rollout(vit, images, **wrong)


@TOKENS
def test_gradients_of_the_weights_are_those_of_explicit_attention(tokens, images):
    """∂y/∂A = ∂y/∂Z · vᵀ under the fused kernel, to 1e-9 in double precision."""
    model = tiny_vit(tokens=tokens).double()
    observation = observe(model, images.double(), ["attention", "gradients"])
    gradients = observation.layer_gradients(None)
    assert observation.classes(None).tolist() == model(images.double()).argmax(1).tolist()
    for number, (weights, expected) in enumerate(matrices(model, images)):
        parts = list(weights_and_gradients(observation.layers[number], gradients[number]))
        assert (torch.cat([part[1] for part in parts], 2) - weights).abs().max() < 1e-12
        assert (torch.cat([part[2] for part in parts], 2) - expected).abs().max() < 1e-9


@pytest.mark.parametrize("target", [None, 0, 3])
@pytest.mark.parametrize("chunk", [1, 2**22])
def test_chefer_is_the_papers_recursion(vit, images, target, chunk, monkeypatch):
    monkeypatch.setattr(layers_module, "CHUNK", chunk)
    whole = torch.eye(7, dtype=torch.float64)
    for weights, gradients in matrices(vit, images, target):
        whole = whole + (weights * gradients).clamp_min(0).mean(1) @ whole
    maps = explain.chefer(vit.double(), images.double(), target)
    np.testing.assert_allclose(maps.values.reshape(2, -1), times_uniform(whole[:, 0], 1), rtol=1e-6)
    np.testing.assert_allclose(maps.prefix_mass[:, 0, 0], whole[:, 0, 0] / whole[:, 0].sum(-1), rtol=1e-6)


@pytest.mark.parametrize("target", [None, 2])
def test_attention_times_gradient_is_the_last_layers(vit, images, target):
    weights, gradients = matrices(vit, images, target)[-1]
    row = (weights * gradients).clamp_min(0).mean(1)[:, 0]
    maps = explain.attention_gradient(vit.double(), images.double(), target)
    np.testing.assert_allclose(maps.values.reshape(2, -1), times_uniform(row, 1), rtol=1e-6)


def test_without_cls_the_mean_of_the_tokens_is_explained(images):
    model = tiny_vit(tokens={}, pool=MeanPool).double()
    twin = explicit_twin(model, pool=MeanPool)
    twin(images.double())
    whole = torch.eye(6, dtype=torch.float64)
    for block in twin.blocks:
        whole = (block.attn.weights.mean(1) / 2 + torch.eye(6) / 2) @ whole
    maps = explain.rollout(model, images.double())
    np.testing.assert_allclose(maps.values.reshape(2, -1), times_uniform(whole.mean(1).detach(), 0), rtol=1e-4)


def test_a_class_that_does_not_exist_is_refused(vit, images):
    for method in (explain.chefer, explain.attention_gradient, explain.grad_cam, explain.occlusion):
        with pytest.raises(UsageError, match="There is no class 5: the model has 5, 0 to 4"):
            method(vit, images, 5)
        with pytest.raises(UsageError, match="target has 3 classes for 2 images"):
            method(vit, images, [0, 1, 2])


def test_a_model_that_detaches_its_tokens_has_no_gradient_to_show(images):
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = tiny_vit(num_classes=0), redraw(nn.Linear(16, 5))

        def forward(self, x):
            with torch.no_grad():
                x = self.inner(x)
            return self.head(x)

    for method in (explain.chefer, explain.attention_gradient, explain.grad_cam):
        with pytest.raises(WatchError, match=r"[Nn]o gradient"):
            method(Cut().eval(), images)


def test_the_untrained_twin_is_another_model_of_the_same_shape(vit, images):
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    twin = untrained_twin(vit)
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())
    for name, value in twin.state_dict().items():
        assert value.shape == before[name].shape
        assert "weight" not in name or not torch.equal(value, before[name]), name
    again = untrained_twin(vit)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in twin.state_dict().items())
    other = untrained_twin(vit, seed=1)
    assert not torch.equal(other(images), twin(images))
