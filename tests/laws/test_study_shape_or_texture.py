"""Shapes and textures are paired in the same way for every cue of a seed; and how cues are suppressed."""

import numpy as np
import pytest
import torch

from vitral.data.augmentation.blur import gaussian_blur
from vitral.data.synthetic.textures import CUES, TEXTURES, signs, textures
from vitral.studies.claims.shape_or_texture import TILE, shuffle_tiles

SEED = 3


@pytest.fixture(scope="module")
def splits():
    return {cue: textures(n=500, cue=cue, seed=SEED).train for cue in CUES}


def test_outlines_and_classes_are_the_same_whatever_the_cue(splits):
    for cue in ("conflict", "shape"):
        assert (splits[cue].masks == splits["both"].masks).all()
    assert all((split.labels == splits["both"].labels).all() for split in splits.values())
    assert splits["texture"].masks.all()


def test_in_a_conflict_every_texture_but_the_shapes_own_occurs(splits):
    conflict = splits["conflict"]
    assert (conflict.factors["texture"] != conflict.labels).all()
    assert len(set(zip(conflict.labels.tolist(), conflict.factors["texture"].tolist()))) == 8 * 7
    for cue in ("both", "texture"):
        assert (splits[cue].factors["texture"] == splits[cue].labels).all()


def test_the_pairing_depends_on_the_seed():
    first, again, other = (textures(n=500, seed=seed, noise=0.0).train.pixels for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize("number", range(len(TEXTURES)))
def test_each_texture_is_light_on_half_of_its_area(number):
    drawn = signs(np.random.default_rng(0), np.full(500, number), 32, 4.0)
    assert set(np.unique(drawn)) <= {-1.0, 1.0}
    assert abs(drawn.mean()) < 0.02


def test_shuffled_tiles_keep_every_pixel_in_another_order(splits):
    pixels = splits["both"].pixels[:20]
    mixed = shuffle_tiles(pixels, 0)
    assert (np.sort(mixed.reshape(20, -1), axis=1) == np.sort(pixels.reshape(20, -1), axis=1)).all()
    tiles = {bytes(image[:TILE, :TILE]) for image in mixed} & {bytes(image[:TILE, :TILE]) for image in pixels}
    assert len(tiles) < 10


def test_blur_keeps_a_constant_image_and_removes_stripes():
    stripes = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(8).expand(1, 3, 32, 32)
    assert gaussian_blur(torch.full((2, 3, 32, 32), 0.7), torch.tensor([0.5, 2.0])).sub(0.7).abs().max() < 1e-5
    assert gaussian_blur(stripes, torch.tensor([2.0]))[..., 8:-8].abs().max() < 0.02
    assert torch.equal(gaussian_blur(stripes, torch.zeros(1)), stripes)
