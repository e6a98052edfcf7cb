"""What every diagnostic promises, and what each must find where the answer is known."""

import inspect
import re

import numpy as np
import pytest
import torch
from torch import nn

from peers import PEERS, peer
from tiny import see_attention, tiny_vit
from vitral import explain
from vitral.base.errors import UsageError, VitralError, WatchError
from vitral.base.lookup import find, names
from vitral.explain.diagnostics.cka import hsic
from vitral.explain.diagnostics.distance import distances, uniform_distance
from vitral.explain.outlier_tokens import is_outlier
from vitral.nn.family.pool import MeanPool
from vitral.recording import layers

ALL = names("explain.diagnostics")
MORE = {
    "similarity": lambda images: dict(patch=(1, 0)),
    "probe": lambda images: dict(labels=[0, 1, 2, 0, 1, 2], test_images=images, test_labels=[0, 1, 2, 0, 1, 2]),
}


@pytest.fixture
def many():
    return torch.randn(6, 3, 8, 18, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def with_registers():
    return tiny_vit(tokens={"cls_token": 1, "reg_token": 2})


@pytest.fixture
def weights(with_registers, many):
    """Every layer's, (batch, layers, heads, tokens, tokens)."""
    seen = see_attention(with_registers, many)
    return torch.stack([layer.weights() for layer in seen.layers], 1)


def found(name, model, images):
    return getattr(explain, name)(model, images, **MORE.get(name, lambda images: {})(images))


def flat(value):
    """The arrays of a result, which may be a dictionary, a tuple or a list of them."""
    if isinstance(value, dict):
        return flat(list(value.values()))
    return [part for each in value for part in flat(each)] if isinstance(value, tuple | list) else [value]


@pytest.mark.parametrize("name", ALL)
def test_it_says_where_it_comes_from_and_leaves_nothing_behind(name, with_registers, many):
    function = find("explain.diagnostics", name, "diagnostic")
    module = inspect.getmodule(inspect.unwrap(function))
    assert module.__doc__.startswith(f"`{name}`") and re.search(r"\b(19|20)\d\d\b", module.__doc__)
    assert "Raises" in function.__doc__
    model = with_registers.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    values = flat(found(name, model, many))
    assert all(np.isfinite(np.asarray(value)).all() for value in values)
    for again, value in zip(flat(found(name, model, many)), values):
        np.testing.assert_array_equal(np.asarray(again), np.asarray(value))
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("family", [name for name in PEERS if name != "written by hand"])
@pytest.mark.parametrize("name", ["entropy", "outliers", "receptive_field", "cka", "pca", "similarity"])
def test_it_works_on_other_peoples_models(name, family):
    made = peer(family)
    for value in flat(found(name, made.model, made.images(6 if name == "cka" else 2))):
        values = np.asarray(value)
        assert np.isfinite(values[..., 0] if name == "entropy" else values).all()


def test_the_shares_of_attention_add_up(with_registers, weights, many):
    masks = np.zeros((6, 8, 18), bool)
    masks[:, :4, :6] = True  # the first patch
    shares = explain.attention_mass(with_registers, many, masks)
    np.testing.assert_allclose(shares["cls"] + shares["prefix"] + shares["patches"], 1, rtol=1e-5)
    np.testing.assert_allclose(shares["cls"], weights[..., 0].mean(-1), rtol=1e-4)
    np.testing.assert_allclose(shares["object"], weights[..., 3].mean(-1), rtol=1e-4)
    np.testing.assert_allclose(shares["itself"], weights.diagonal(dim1=-2, dim2=-1).mean(-1), rtol=1e-4)
    np.testing.assert_allclose(shares["cls reads object"], weights[..., 0, 3], rtol=1e-4)


def test_entropy_and_distance_are_their_formulas(with_registers, weights, many):
    weights = weights.double()
    expected = -(weights * weights.log()).sum(-1).mean(-1) / np.log(9)
    np.testing.assert_allclose(explain.entropy(with_registers, many), expected, rtol=1e-4)
    patches = weights[..., 3:, 3:] / weights[..., 3:, 3:].sum(-1, keepdim=True)
    apart = (patches * distances((2, 3))).sum(-1).mean(-1) / uniform_distance((2, 3))
    np.testing.assert_allclose(explain.distance(with_registers, many), apart, rtol=1e-4)


def test_uniform_attention_is_the_unit(many):
    model = tiny_vit()
    for block in model.blocks:
        nn.init.zeros_(block.attn.qkv.weight[:32])
        nn.init.zeros_(block.attn.qkv.bias[:32])
    np.testing.assert_allclose(explain.distance(model, many), 1, rtol=1e-5)
    np.testing.assert_allclose(explain.entropy(model, many), 1, rtol=1e-5)
    assert uniform_distance((14, 14)) == pytest.approx(7.28, abs=0.01)  # 116.5 pixels at 16 a patch


@pytest.mark.parametrize("chunk", [1, 40])
def test_in_chunks_it_is_the_same(with_registers, many, chunk, monkeypatch):
    def measured():
        means = explain.entropy(with_registers, many), explain.distance(with_registers, many)
        return [*means, *explain.attention_mass(with_registers, many).values()]

    whole = measured()
    monkeypatch.setattr(layers, "CHUNK", chunk)
    for one, two in zip(whole, measured()):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


def test_outliers_are_found_where_they_are():
    tokens = torch.randn(2, 100, 8, generator=torch.Generator().manual_seed(0))
    tokens[0, 17] *= 40
    above = is_outlier(tokens)
    assert above.nonzero().tolist() == [[0, 17]]


def test_the_receptive_field_of_a_patch_projection_is_the_patch(many):
    field = explain.receptive_field(tiny_vit(), many, patch=(1, 2))
    assert field.shape == (4, 8, 18)
    np.testing.assert_allclose(field.sum((1, 2)), 1)
    assert field[0, 4:, 12:].sum() == pytest.approx(1)
    assert field[1, 4:, 12:].sum() < 0.99


def test_cka_of_a_model_with_itself_is_one_and_turned_or_scaled_too(many):
    model, images = tiny_vit(), torch.randn(40, 3, 8, 18)
    similar = explain.cka(model, images)
    np.testing.assert_allclose(similar, similar.T)
    np.testing.assert_allclose(np.diag(similar), 1)
    other = explain.cka(model, images, tiny_vit(seed=1))
    assert other.shape == (4, 4)
    with pytest.raises(UsageError, match="at least 4"):
        explain.cka(model, many[:3])


def test_cka_of_what_is_unrelated_is_about_zero_though_features_outnumber_images():
    found = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(20, 500, generator=generator, dtype=torch.float64) for _ in range(2))
        k, m = ((z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y))
        k, m = k.fill_diagonal_(0), m.fill_diagonal_(0)
        found.append(float(hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()))
    assert abs(np.mean(found)) < 0.05


def test_the_logit_lens_ends_with_the_models_answer(many):
    model = tiny_vit()
    lens = explain.logit_lens(model, many)
    assert lens.shape == (6, 4, 7, 5)
    torch.testing.assert_close(lens[:, -1, 0], model(many).detach())


def test_a_probe_reads_what_is_there():
    """The class is the image's brightness: the patch projection shows it, and so does every block after it."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    images = torch.randn(60, 3, 8, 18, generator=generator) * 0.1 + labels[:, None, None, None].float()
    model = tiny_vit(tokens={}, pool=MeanPool)
    read = explain.probe(model, images[:40], labels[:40].tolist(), images[40:], labels[40:].tolist())
    assert read.shape == (4,) and (read > 0.9).all()
    with pytest.raises(UsageError, match="found 40 images with 39 labels"):
        explain.probe(model, images[:40], labels[:39].tolist(), images[40:], labels[40:].tolist())


def test_pca_is_of_all_images_on_one_scale(many):
    colours, shares = explain.pca(tiny_vit(), many, place=1)
    assert colours.min() == 0 and colours.max() == 1
    assert (np.diff(shares) <= 0).all() and shares.sum() <= 1


def test_a_patch_is_like_itself(many):
    alike = explain.similarity(tiny_vit(), many, (1, 2))
    np.testing.assert_allclose(alike[:, 1, 2], 1, rtol=1e-5)
    assert np.abs(alike).max() <= 1 + 1e-6
    with pytest.raises(UsageError, match=r"no patch at row 2, column 0: .* has rows 0 to 1 and columns 0 to 2"):
        explain.similarity(tiny_vit(), many, (2, 0))


def test_positions_are_compared_by_their_cosine(many):
    model = tiny_vit()
    alike = explain.positions(model, many)
    table = model.pos_embed.detach()[0, 1:].double()
    assert alike[0, 1, 1, 2] == pytest.approx(float(torch.cosine_similarity(table[1], table[5], dim=0)))
    with pytest.raises(WatchError, match="no learned table"):
        explain.positions(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), many)


@pytest.mark.parametrize("name", ["attention_mass", "distance"])
def test_attention_within_windows_is_refused_where_it_means_nothing(name):
    made = peer("timm Swin")
    with pytest.raises(UsageError, match="attends within windows"):
        found(name, made.model, made.images())


def test_a_cnn_has_features_but_no_attention():
    pool = nn.AdaptiveAvgPool2d(1)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), pool, nn.Flatten(), nn.Linear(8, 5))
    images = torch.randn(5, 3, 8, 18)
    assert explain.cka(model, images).shape == (2, 2)
    for name in ("entropy", "distance", "attention_mass", "logit_lens"):
        with pytest.raises(VitralError):
            found(name, model, images)
