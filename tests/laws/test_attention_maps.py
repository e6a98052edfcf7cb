"""`explain.attention`: what CLS attends to among the patches, in units of uniform attention."""

import numpy as np
import pytest
import torch
from torch import nn

from tiny import redraw, see_attention, tiny_vit
from vitral.base.errors import UsageError, WatchError
from vitral.base.preprocessing import Preprocessing
from vitral.explain import attention


def watched(model, images):
    """Every layer's whole attention, (batch, layers, heads, tokens, tokens), with NumPy."""
    seen = see_attention(model, images)
    return torch.stack([layer.weights() for layer in seen.layers], 1).numpy().astype(np.float64)


@pytest.mark.parametrize("tokens", [{"cls_token": 1}, {"cls_token": 1, "reg_token": 2}], ids=["cls", "registers"])
@pytest.mark.parametrize("query", [0, 4])
def test_a_value_is_the_patchs_attention_in_units_of_its_share_if_all_were_alike(tokens, query, images):
    model = tiny_vit(tokens=tokens)
    prefix, weights = model.num_prefix_tokens, watched(model, images)
    maps = attention(model, images, query=query)
    assert maps.values.shape == (2, 3, 4, 2, 3)
    assert maps.grid == model.grid == (2, 3)
    for place in np.ndindex(2, 3, 4):
        row = weights[(*place, query)]
        total = sum(row[prefix:])
        for patch in range(6):
            expected = 6 * row[prefix + patch] / total
            assert maps.values[(*place, patch // 3, patch % 3)] == pytest.approx(expected, rel=1e-5)
        assert maps.prefix_mass[place] == pytest.approx(sum(row[:prefix]), rel=1e-5)
        assert maps.prefix_mass[place] == pytest.approx(1 - total, abs=1e-5)


def test_the_mean_over_patches_is_one(vit, images):
    maps = attention(vit, images)
    np.testing.assert_allclose(maps.values.mean(axis=(-2, -1)), 1, atol=1e-5)
    assert maps.values.std() > 0.2
    assert maps.values.min() >= 0


def test_layers_and_heads_are_those_asked_for_in_that_order(vit, images):
    full = attention(vit, images)
    maps = attention(vit, images, layers=[-1, 0], heads=(3, -4))
    assert maps.layers == ("blocks.2.attn", "blocks.0.attn")
    assert maps.heads == (3, 0)
    np.testing.assert_array_equal(maps.values, full.values[:, [2, 0]][:, :, [3, 0]])
    np.testing.assert_array_equal(maps.prefix_mass, full.prefix_mass[:, [2, 0]][:, :, [3, 0]])
    assert full.layers == ("blocks.0.attn", "blocks.1.attn", "blocks.2.attn")
    assert full.heads == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (dict(layers=[3]), "no layer 3: the model has 3, 0 to 2"),
        (dict(layers=[0, -4]), "no layer -4"),
        (dict(heads=[4]), "no head 4: the model has 4, 0 to 3"),
        (dict(heads=[-5]), "no head -5"),
        (dict(query=7), "has 7 tokens, 0 to 6"),
        (dict(query=-1), "has 7 tokens, 0 to 6"),
        (dict(layers=[]), "layer"),
        (dict(heads=[]), "head"),
    ],
    ids=str,
)
def test_what_the_model_does_not_have_is_refused(vit, images, chosen, message):
    with pytest.raises(UsageError, match=message):
        attention(vit, images, **chosen)


def test_a_batch_gives_what_its_images_give_one_by_one(vit, images):
    together = attention(vit, images)
    for place in range(2):
        alone = attention(vit, images[place : place + 1])
        np.testing.assert_allclose(alone.values[0], together.values[place], atol=1e-5)
        np.testing.assert_allclose(alone.prefix_mass[0], together.prefix_mass[place], atol=1e-6)
        np.testing.assert_array_equal(alone.pixels[0], together.pixels[place])


def test_attention_is_the_same_for_every_class(vit, images):
    np.testing.assert_array_equal(attention(vit, images, 3).values, attention(vit, images).values)


def test_the_map_says_what_it_shows_and_how_it_was_checked(vit, images):
    maps = attention(vit, images)
    assert (maps.method, maps.unit, maps.sign) == ("attention", "times uniform", "positive")
    assert "CLS" in maps.explained
    assert 0 <= maps.residual < 2e-5
    assert f"{maps.residual:.0e}" in maps.caption
    assert "patch 1 0" in attention(vit, images, query=4).explained.lower()
    assert "CLS" not in attention(vit, images, query=4).explained


def test_the_pixels_are_those_the_model_saw(vit):
    vit.preprocessing = Preprocessing((8, 18), mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 18, 3), dtype=np.uint8)
    mean, std = np.float32([0.1, 0.5, 0.9]), np.float32([0.2, 0.3, 0.4])
    images = torch.from_numpy((pixels / np.float32(255) - mean) / std).permute(0, 3, 1, 2)
    np.testing.assert_array_equal(attention(vit, images).pixels, pixels)


class Changing(nn.Module):
    """A model that answers something else each time."""

    grid, num_prefix_tokens, preprocessing = (3, 3), 1, Preprocessing((6, 6))

    def __init__(self):
        super().__init__()
        self.layer = redraw(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True))
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return self.layer(images.new_ones(len(images), 10, 8) + torch.arange(8.0))[:, 0] + self.calls


def test_a_model_whose_output_is_changed_by_watching_is_refused():
    with pytest.raises(WatchError, match=r"output changed by .* while it was watched, so there is no map"):
        attention(Changing().eval(), torch.randn(1, 3, 6, 6))


class Plain(nn.Module):
    """A reader's own model, with nothing but a forward: 3 x 3 patches behind CLS."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(12, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        redraw(self)

    def forward(self, images):
        patches = self.embed(nn.functional.unfold(images, 2, stride=2).mT)
        return self.layer(nn.functional.pad(patches, (0, 0, 1, 0)))[:, 0]


class Unrelated(Plain):
    """9 tokens of which none belongs to a patch."""

    def forward(self, images):
        seeds = torch.arange(9 * 8.0).sin().reshape(1, 9, 8)
        return self.layer(seeds + images.mean((1, 2, 3))[:, None, None])[:, 0]


def test_the_tokens_of_a_model_that_says_nothing_of_itself_are_measured():
    model, images = Plain(), torch.rand(2, 3, 6, 6)
    weights, maps = watched(model, images), attention(model, images)
    assert maps.values.shape == (2, 1, 2, 3, 3)
    patches = weights[:, :, :, 0, 1:]
    expected = 9 * patches / patches.sum(-1, keepdims=True)
    np.testing.assert_allclose(maps.values.reshape(2, 1, 2, 9), expected, rtol=1e-5)
    assert maps.layers == ("layer.self_attn",)
    assert maps.pixels.shape == (2, 6, 6, 3)


def test_patches_that_are_no_grid_are_refused_with_advice():
    model = Unrelated()
    with pytest.raises(UsageError, match="9 tokens whose places in the image are not known"):
        attention(model, torch.rand(1, 3, 6, 6))
    model.num_prefix_tokens = 1
    model.grid = (2, 4)
    assert attention(model, torch.rand(1, 3, 6, 6)).grid == (2, 4)


def test_layers_with_different_tokens_are_refused_together_and_shown_apart():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(12, 8)
            self.wide, self.narrow = (nn.TransformerEncoderLayer(8, 2, 8, batch_first=True) for _ in range(2))

        def forward(self, images):
            x = self.embed(nn.functional.unfold(images, 2, stride=2).mT)
            x = self.wide(nn.functional.pad(x, (0, 0, 1, 0)))
            merged = nn.functional.avg_pool2d(x[:, 1:].mT.unflatten(2, (4, 4)), 2).flatten(2).mT
            return self.narrow(torch.cat([x[:, :1], merged], 1))[:, 0]

    model, images = redraw(Two()), torch.rand(1, 3, 8, 8)
    with pytest.raises((WatchError, UsageError), match="layers="):
        attention(model, images, layers=[0, 1])
    assert attention(model, images).layers == ("narrow.self_attn",)
    assert "Not shown: layer 0, which has a different grid or number of heads." in attention(model, images).caption
    assert attention(model, images, layers=[0]).grid == (4, 4)
    assert attention(model, images, layers=[1]).grid == (2, 2)


class Mixing(nn.Module):
    """Self-attention of patches in layers, of which `flip` sees them reversed, and `heads` has twice the heads."""

    def __init__(self, *kinds):
        super().__init__()
        self.embed, self.kinds = nn.Linear(12, 8), kinds
        heads = [4 if kind == "heads" else 2 for kind in kinds]
        self.layers = nn.ModuleList(nn.MultiheadAttention(8, count, batch_first=True) for count in heads)

    def forward(self, images):
        x = self.embed(nn.functional.unfold(images, 2, stride=2).mT)
        for kind, layer in zip(self.kinds, self.layers):
            z = x.flip(1) if kind == "flip" else x
            out = layer(z, z, z, need_weights=False)[0]
            x = x + (out.flip(1) if kind == "flip" else out)
        return x.mean(1)


@pytest.mark.parametrize(
    ("kinds", "shown", "note"),
    [
        (("plain", "plain", "plain"), (0, 1, 2), ""),
        (("plain", "flip", "plain"), (0, 2), "layer 1, which has different tokens, or tokens in a different order"),
        (
            ("flip", "heads", "flip", "plain"),
            (3,),
            "layers 0, 2, which have different tokens, or tokens in a different order",
        ),
        (("flip", "heads", "flip", "plain"), (3,), "layer 1, which has a different grid or number of heads"),
        (
            ("plain", "heads", "heads", "heads", "plain"),
            (0, 4),
            "layers 1 to 3, which have a different grid or number of",
        ),
    ],
)
def test_what_is_not_shown_beside_the_last_layer_is_said_with_its_own_reason(kinds, shown, note):
    model, images = redraw(Mixing(*kinds)), torch.rand(2, 3, 8, 8)
    maps = attention(model, images)
    assert maps.layers == tuple(f"layers.{number}" for number in shown)
    assert (f"Not shown: {note}" in maps.caption) if note else "Not shown" not in maps.caption
