"""Models that squeeze a batch of one, answer at random, or mix the images of a batch: exact, or refused by cause."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vitral
from own_vit import OwnViT
from tiny import redraw
from vitral import explain, watch
from vitral.base.errors import UsageError, WatchError
from vitral.base.lookup import names
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.explain.trials import trust

METHODS = sorted(names("explain.methods"))
SIXTEEN = Preprocessing((16, 16))
CLASSES = ("a", "b", "c", "d", "e")


class Squeezing(OwnViT):
    """Without the axis of images for one image."""

    def answer(self, cls):
        return self.head(cls).squeeze()


class SqueezingTokens(OwnViT):
    """Its tokens, too, are without the axis of images."""

    def enter(self, tokens):
        return tokens.squeeze(0)

    def run(self, block, tokens):
        alone = tokens.ndim == 2
        out = block(tokens[None] if alone else tokens)
        return out[0] if alone else out

    def answer(self, cls):
        return self.head(cls)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = self.enter(torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.position)
        for block in self.blocks:
            x = x + self.run(block, x)
        return self.head(x[..., 0, :])


class Random(OwnViT):
    """Dropout that eval mode does not turn off."""

    def enter(self, tokens):
        return F.dropout(tokens, 0.2)


class OverBatch(OwnViT):
    """Normalised by the mean of the batch."""

    def enter(self, tokens):
        return tokens - tokens.mean(dim=0)


class LastOverBatch(OwnViT):
    """Normalised by the batch after the last block, where an image alone is left as it is."""

    def answer(self, cls):
        return self.head(cls - 0.5 * cls.mean(dim=0) if len(cls) > 1 else cls)


@pytest.fixture
def pictures():
    return torch.randn(3, 3, 16, 16)


@pytest.mark.parametrize("kind", [Squeezing, SqueezingTokens])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 3])
def test_a_model_that_squeezes_a_batch_of_one_is_explained_as_one_that_does_not(pictures, kind, method, count):
    maps, expected = (getattr(explain, method)(redraw(each()), pictures[:count]) for each in (kind, OwnViT))
    np.testing.assert_allclose(maps.values, expected.values, rtol=1e-4, atol=1e-5)
    assert maps.targets == expected.targets and maps.layers == expected.layers
    assert ("without a batch axis" in maps.caption_of(0)) == (count == 1)


@pytest.mark.parametrize("kind", [Squeezing, SqueezingTokens])
@torch.no_grad()
def test_what_is_seen_of_a_model_that_squeezes_is_what_it_used(pictures, kind):
    model = redraw(kind())
    with watch(model, "all") as seen:
        model(pictures[:1])
    for layer, block in zip(seen.layers, model.blocks, strict=True):
        torch.testing.assert_close(layer.weights(), block.weights)
        assert layer.roles[:2] == ("cls", "patch 0 0")


def predicted(model, count):
    pixels = list(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)[:count])
    return vitral.predict(attach_record(redraw(model), ModelRecord(CLASSES, SIXTEEN)), pixels)


def notes_of(found):
    """What is noted, but that the training images are unknown, as they are of every model that was not trained here."""
    others = [note for note in found.notes if not note.startswith("training images unknown: ")]
    assert len(others) == len(found.notes) - 1
    return others


@pytest.mark.parametrize("kind", [Squeezing, SqueezingTokens])
@pytest.mark.parametrize("count", [1, 3])
def test_a_model_that_squeezes_predicts_as_one_that_does_not(count, kind):
    found, expected = predicted(kind(), count), predicted(OwnViT(), count)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-5)
    assert bool(notes_of(found)) == (count == 1) and not notes_of(expected)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Random, "gives different outputs for the same image.*Use nn.Dropout"),
        (OverBatch, "depends on the other images of the batch.*nn.LayerNorm"),
        (LastOverBatch, "depends on the other images of the batch.*nn.LayerNorm"),
    ],
)
def test_a_prediction_that_is_not_of_the_image_alone_comes_with_a_warning(kind, words, count):
    (note,) = notes_of(predicted(kind(), count))
    assert re.match(f"warning: .*{words}", note)


def test_the_warning_leaves_the_generator_of_the_user_where_it_was():
    model = OwnViT()
    torch.manual_seed(1)
    predicted(model, 2)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_no_method_explains_a_model_that_answers_at_random(pictures, method, count):
    words = "random outputs, or one that every forward pass changes|gives different outputs for the same image"
    with pytest.raises(WatchError, match=f"({words}).*use nn.Dropout|Use nn.Dropout"):
        getattr(explain, method)(redraw(Random()), pictures[:count])


@pytest.mark.parametrize("kind", [OverBatch, LastOverBatch])
@pytest.mark.parametrize("method", sorted({*METHODS} - {"attention", "rollout"}))
def test_no_method_that_compares_answers_explains_a_model_that_mixes_the_images(pictures, kind, method):
    with pytest.raises(WatchError, match="depends on the other images of the batch"):
        getattr(explain, method)(redraw(kind()), pictures)


@pytest.mark.parametrize("kind", [OverBatch, LastOverBatch])
def test_occlusion_of_one_image_is_refused_too_since_it_runs_many(pictures, kind):
    with pytest.raises(WatchError, match="depends on the other images of the batch"):
        explain.occlusion(redraw(kind()), pictures[:1])


@pytest.mark.parametrize("kind", [Random, OverBatch, LastOverBatch])
@torch.no_grad()
def test_what_is_seen_of_them_is_what_that_pass_used(pictures, kind):
    model = redraw(kind())
    with watch(model, "all") as seen:
        model(pictures)
    for layer, block in zip(seen.layers, model.blocks, strict=True):
        torch.testing.assert_close(layer.weights(), block.weights)


def test_a_map_of_a_model_that_mixes_the_images_is_not_tested_on_batches(pictures):
    model = redraw(LastOverBatch())
    (found,) = trust(model, pictures[:1], explain.attention(model, pictures[:1]))
    assert found.sentence.startswith("Not tested: The output of LastOverBatch for an image depends on the other images")


def test_a_model_that_takes_one_batch_size_only_is_not_refused_for_that(pictures):
    class Three(OwnViT):
        def before(self, images):
            return images.reshape(3, 3, 16, 16)

    for method in ("attention", "chefer", "grad_cam"):
        expected = getattr(explain, method)(redraw(OwnViT()), pictures)
        np.testing.assert_allclose(getattr(explain, method)(redraw(Three()), pictures).values, expected.values)


def test_nan_in_the_images_is_told_with_its_place(pictures):
    pictures[1, 2, 3, 4] = float("nan")
    pictures[2, 0, 0, 0] = float("inf")
    for method in METHODS:
        with pytest.raises(UsageError, match=r"images\[1\] is nan in channel 2, row 3, column 4, and 1 more values"):
            getattr(explain, method)(OwnViT(), pictures)


@pytest.mark.parametrize("method", METHODS)
def test_nan_in_the_answer_is_told_as_that(pictures, method):
    class NoNumber(OwnViT):
        def answer(self, cls):
            return self.head(cls) / torch.tensor([1.0, float("nan"), 1.0])[: len(cls), None]

    with pytest.raises(WatchError, match="output holds NaN for 1 of 3 images"):
        getattr(explain, method)(redraw(NoNumber()), pictures)


def test_a_linear_model_has_one_answer(pictures):
    model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5))
    assert explain.occlusion(model, pictures, grid=(4, 4)).values.shape[-2:] == (4, 4)
