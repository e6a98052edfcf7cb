"""Tiles that overlap give the whole image's answer: weights sum to 1, and tiles agree where a model promises it."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from segmenters import Convolutional, Global, OfOneSize, Windowed, disagreements, photograph, segmenter, whole_logits
from vitral.base.errors import ConfigError
from vitral.data.large.tiles import cover, mirrored, ramp_weights
from vitral.tasks.tile import predict_tiles
from vitral.tasks.tiling.reach import Reach, measure_reach


def weights_of(axis):
    """The weight of each tile at each pixel: (tiles, padded)."""
    weights, rising = np.zeros((len(axis), axis.padded)), ramp_weights(axis.ramp)
    for index in range(len(axis)):
        first, last = axis.counted(index)
        weights[index, first:last] = 1
    for index, seam in enumerate(axis.seams):
        weights[index, seam : seam + axis.ramp] = 1 - rising
        weights[index + 1, seam : seam + axis.ramp] = rising
    return weights


@given(st.data())
@settings(max_examples=200)
def test_the_weights_of_each_pixel_sum_to_1_and_context_has_none(data):
    length, tile = data.draw(st.integers(1, 400)), data.draw(st.integers(1, 96))
    alignment = data.draw(st.sampled_from([side for side in (1, 2, 4, 7, 8, 16) if tile % side == 0]))
    context, ramp = data.draw(st.integers(0, tile // 2)), data.draw(st.integers(0, tile))
    try:
        axis = cover(length, tile, context, alignment, ramp, shrinks=data.draw(st.booleans()))
    except ConfigError:
        assume(False)
    weights = weights_of(axis)
    np.testing.assert_allclose(weights.sum(0), 1, atol=1e-12)
    assert weights.min() >= 0 and (weights > 0).sum(0).max() <= 2
    assert axis.padded >= length and axis.padded - length < max(alignment, tile)
    assert axis.origins[0] == 0 and axis.origins[-1] + axis.tile == axis.padded
    for index, origin in enumerate(axis.origins):
        first, last = axis.counted(index)
        assert origin % alignment == 0 and origin <= first < last <= origin + axis.tile
        assert not weights[index, :first].any() and not weights[index, last:].any()
        assert index == 0 or first - origin >= context
        assert index == len(axis) - 1 or origin + axis.tile - last >= context


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 12))
def test_mirrored_pixels_are_those_of_numpy(first, count, length):
    padded = np.pad(np.arange(length), (0, first + count), mode="symmetric")
    assert (mirrored(first, count, length) == padded[first : first + count]).all()


@pytest.fixture(scope="module")
def models():
    return {kind: segmenter(kind) for kind in (Convolutional, Windowed, Global)}


@pytest.mark.parametrize(("kind", "period"), [(Convolutional, 4), (Windowed, 8)])
@given(data=st.data())
@settings(max_examples=12)
def test_tiles_give_the_whole_images_logits_of_a_local_model(kind, period, models, data):
    model = models[kind]
    reach = measure_reach(model, model.preprocessing)
    assert reach == Reach(reach.context, period) and reach.context is not None
    height, width = data.draw(st.integers(9, 150)), data.draw(st.integers(9, 150))
    context = reach.context + data.draw(st.integers(0, 9))
    tile = period * data.draw(st.integers(-(-2 * context // period) + 1, 24))
    pixels = photograph(height, width, seed=data.draw(st.integers(0, 9)))
    found, classes = tiled(model, pixels, tile=tile, context=context)
    assert found.is_exact and found.seams.largest < 1e-4 and found.inside is None
    whole = whole_logits(model, pixels, -(-height // period) * period, -(-width // period) * period)
    assert disagreements(whole, classes) == 0
    assert found.shares == tuple((classes == index).mean() for index in range(4))


def tiled(model, pixels, **options):
    """The result of tiles, and its classes."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "scan.tif"
        tifffile.imwrite(image, pixels, photometric="rgb")
        found = predict_tiles(model, image, Path(folder) / "out.tif", **options)
        return found, found.read()


@pytest.mark.parametrize("kind", [Convolutional, Windowed])
def test_less_context_than_the_model_sees_or_an_odd_origin_breaks_it(kind, models):
    """The measured reach and period are needed, not only enough."""
    model, pixels = models[kind], photograph(120, 120)
    reach = measure_reach(model, model.preprocessing)
    found, classes = tiled(model, pixels, tile=48, context=0)
    assert not found.is_exact and found.seams.share > 0
    assert disagreements(whole_logits(model, pixels, 120, 120), classes) > 0
    images = torch.randn(1, 3, 72, 64)
    for shift, same in ((reach.alignment, True), (reach.alignment // 2, False)):
        with torch.no_grad():
            moved = model(images[:, :, shift : shift + 64])[:, :, 24 - shift : 40 - shift, 24:40]
            assert torch.allclose(model(images[:, :, :64])[:, :, 24:40, 24:40], moved, atol=1e-4) is same


def test_one_tile_is_the_whole_image(models):
    for model in models.values():
        pixels = photograph(32, 32)
        found, classes = tiled(model, pixels)
        assert found.tiles == 1 and found.seams.pixels == 0
        assert disagreements(whole_logits(model, pixels, 32, 32), classes) == 0


def test_a_model_that_attends_globally_is_measured_and_reports_its_seams(models):
    model = models[Global]
    reach = measure_reach(model, model.preprocessing)
    assert (reach.context, reach.only_size, reach.is_global) == (None, None, True)
    found, _ = tiled(model, photograph(100, 130))
    assert found.tile == (32, 32) and not found.is_exact
    assert found.seams.share > 0 and found.seams.mean > 0 and found.inside.pixels > 0
    assert "where tiles meet: the class differs at" in found.text() and "well inside two tiles" in found.text()
    assert any("its answer depends on the tile" in note for note in found.notes)


class WrittenOut(Global):
    """Softmax attention, written out by hand."""

    def attend(self, tokens):
        return (tokens @ tokens.mT).softmax(-1) @ tokens


class MultiHead(Global):
    """PyTorch's own module, whose fast path hides its attention."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def attend(self, tokens):
        return self.layer(tokens)


@pytest.mark.parametrize("kind", [Global, WrittenOut, MultiHead])
def test_global_attention_of_any_form_is_seen(kind):
    model = segmenter(kind)
    reach = measure_reach(model, model.preprocessing)
    assert reach.is_global and reach.context is None


def test_a_model_of_one_size_gets_tiles_of_that_size():
    model = segmenter(OfOneSize, size=(32, 48))
    assert measure_reach(model, model.preprocessing).only_size == (32, 48)
    for height, width in ((100, 130), (20, 30), (32, 48)):
        found, classes = tiled(model, photograph(height, width))
        assert found.tile == (32, 48) and classes.shape == (height, width)
    with pytest.raises(ConfigError, match="takes images of 32 x 48 pixels only"):
        tiled(model, photograph(64, 64), tile=64)


class SqueezeExcite(nn.Module):
    """Channels are scaled by their mean over the image."""

    def __init__(self):
        super().__init__()
        self.maps, self.gate, self.head = nn.Conv2d(3, 8, 3, 1, 1), nn.Linear(8, 8), nn.Conv2d(8, 4, 1)

    def forward(self, images):
        maps = self.maps(images)
        return self.head(maps * self.gate(maps.mean((2, 3))).sigmoid()[:, :, None, None])


class Coordinates(nn.Module):
    """The row, from -1 to 1, is a channel of the input."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(4, 4, 3, 1, 1)

    def forward(self, images):
        rows = torch.linspace(-1, 1, images.shape[2])[None, None, :, None].expand_as(images[:, :1])
        return self.head(torch.cat([images, rows], 1))


def padded_by(mode, side=3):
    return nn.Sequential(nn.Conv2d(3, 4, side, 1, side // 2, padding_mode=mode), nn.ReLU(), nn.Conv2d(4, 4, 1))


# name -> (module, context, alignment); a context of None promises nothing
REACHES = {
    "one pixel": (lambda: nn.Conv2d(3, 4, 1), 0, 1),
    "3 x 3": (lambda: padded_by("zeros"), 1, 1),
    "mirrored padding": (lambda: padded_by("reflect", 5), 2, 1),
    "padding that wraps around": (lambda: padded_by("circular"), None, 1),
    "dilated": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 1, 4, 4), nn.ReLU(), nn.Conv2d(8, 4, 3, 1, 8, 8)), 12, 1),
    "pooled and transposed": (lambda: nn.Sequential(nn.MaxPool2d(2), nn.ConvTranspose2d(3, 4, 2, 2)), 0, 2),
    "patches of 7": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 7, 7), nn.Conv2d(8, 4, 3, 1, 1), nn.Upsample(None, 7)),
        7,
        7,
    ),
    "norm over the image": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.GroupNorm(2, 4)), None, 1),
    "squeeze and excite": (SqueezeExcite, None, 1),
    "coordinates": (Coordinates, None, 1),
}


@pytest.mark.parametrize("name", REACHES)
def test_the_reach_of_many_forms(name):
    """Where nothing is promised, an image in one tile is still the whole image."""
    module, context, alignment = REACHES[name]
    model = segmenter(module, size=(56, 56) if "7" in name else (32, 32))
    assert measure_reach(model, model.preprocessing) == Reach(context, alignment)
    pixels = photograph(90, 110)
    padded = [-(-side // alignment) * alignment for side in (90, 110)]
    whole = whole_logits(model, pixels, *padded)
    found, classes = tiled(model, pixels)
    assert found.tiles == 1 and disagreements(whole, classes) == 0
    found, classes = tiled(model, pixels, tile=56)
    assert found.tiles > 1 and found.is_exact == (context is not None)
    assert (disagreements(whole, classes) == 0) == found.is_exact


def test_the_reach_of_a_head_that_is_zero_is_none():
    """A new head gives the same logits everywhere, so nothing is seen."""
    model = segmenter()
    torch.nn.init.zeros_(model.head.weight)
    assert measure_reach(model, model.preprocessing) == Reach(0, 4)
