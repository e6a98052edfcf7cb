"""`scenes`: masks that are exact, objects that hide each other, and the same scenes in longer sets."""

import numpy as np
import pytest

from vitral.base.errors import ConfigError
from vitral.data.drawing import SHAPES
from vitral.data.synthetic.scenes import scenes

ALONE = dict(fewest=1, most=1, noise=0.0)


def beside(mask):
    """The pixels of a mask and those beside it, diagonally too."""
    padded = np.pad(mask, 1)
    rows, columns = mask.shape
    return np.any([padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)], axis=0)


def test_a_scene_has_the_class_and_the_object_of_every_pixel():
    data = scenes(n=40, size=96, held_out=8)
    assert data.task == "segmentation" and data.classes == ("background", *SHAPES)
    split = data.train
    instances, objects = split.factors["instances"], split.factors["objects"]
    assert split.labels.shape == instances.shape == (40, 96, 96) and split.masks is None
    assert ((instances > 0) == (split.labels > 0)).all()
    assert (instances.max(axis=(1, 2)) <= objects).all() and objects.min() >= 3 and objects.max() <= 8
    for labels, own in zip(split.labels, instances):
        assert all(len(np.unique(labels[own == number])) <= 1 for number in range(1, 9))
    assert set(np.unique(split.labels)) == set(range(9))


def test_masks_are_where_objects_are_painted():
    """The opacity of each pixel, from its colour between background and object, is above a half just in the mask."""
    split = scenes(n=40, size=64, held_out=8, **ALONE).train
    y, x = np.mgrid[:64, :64]
    plane = np.stack([np.ones(64 * 64), y.ravel(), x.ravel()], axis=1)
    for pixels, labels in zip(split.pixels / 255, split.labels):
        mask = labels > 0
        far, inside = ~beside(beside(mask)), ~beside(~mask)
        fit, *_ = np.linalg.lstsq(plane[far.ravel()], pixels[far], rcond=None)  # the background is a gradient
        background = (plane @ fit).reshape(64, 64, 3)
        colour = np.median(pixels[inside], axis=0) - background
        opacity = ((pixels - background) * colour).sum(-1) / (colour**2).sum(-1)
        sure = np.abs(opacity - 0.5) > 0.05
        assert ((opacity > 0.5) == mask)[sure].all() and sure.mean() > 0.97


def test_the_outline_is_that_of_the_class():
    """The share of its bounding box that an upright object fills."""
    split = scenes(n=200, size=96, held_out=8, rotation=0.0, smallest=0.35, **ALONE).train
    fill = {name: [] for name in SHAPES}
    for labels in split.labels:
        rows, columns = (np.flatnonzero((labels > 0).any(axis=axis)) for axis in (1, 0))
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        fill[list(SHAPES)[labels.max() - 1]].append((labels > 0).sum() / box)
    expected = {"disk": np.pi / 4, "square": 1, "bar": 1, "triangle": 0.5, "half-disk": np.pi / 4}
    for name, share in expected.items():
        assert np.mean(fill[name]) == pytest.approx(share, abs=0.04), name
    assert np.mean(fill["ring"]) < 0.7 and 0.4 < np.mean(fill["plus"]) < 0.6 and 0.6 < np.mean(fill["L"]) < 0.75


def test_later_objects_hide_earlier_ones_and_touch_nothing_else():
    """The same scene up to an object: what has a later number lies above it."""
    split = scenes(n=30, size=64, held_out=8, fewest=8, occlusion=1.0, noise=0.0).train
    areas = np.stack([(split.factors["instances"] == number).sum((1, 2)) for number in range(1, 9)], axis=1)
    assert areas[:, 7].min() > 0.5 * 0.19**2 * 64**2  # nothing hides the last
    assert areas[:, 0].mean() < 0.95 * areas[:, 7].mean()


@pytest.mark.parametrize("size", [16, 24, 100, 2048])
def test_any_size_from_16_to_2048(size):
    data = scenes(n=8, size=size, held_out=8)
    split = data.val if size > 1000 else data.train
    assert split.pixels.shape == (8, size, size, 3) and data.preprocessing.size == (size, size)
    objects = split.factors["instances"]
    assert (objects.max(axis=(1, 2)) >= 2).all()
    area = (split.labels > 0).mean(axis=(1, 2))
    assert 0.05 < area.mean() < 0.6
    border = np.ones((size, size), bool)
    border[1:-1, 1:-1] = False
    assert not split.labels[:, border].any()  # a pixel is left at every border


def test_small_objects_and_many():
    split = scenes(n=8, size=256, held_out=8, fewest=40, most=40, smallest=0.03, largest=0.05, occlusion=0.0).train
    assert (split.factors["objects"] == 40).all()
    visible = [len(np.unique(own)) - 1 for own in split.factors["instances"]]
    assert min(visible) == 40


def test_a_longer_set_begins_with_the_shorter_one_across_chunks():
    """At 512 pixels a chunk has four scenes."""
    short, long = (scenes(n=n, size=512, held_out=8).train for n in (9, 13))
    for name in ("pixels", "labels"):
        assert (getattr(short, name) == getattr(long, name)[:9]).all()
    for name in short.factors:
        assert (short.factors[name] == long.factors[name][:9]).all()


def test_splits_differ_and_the_seed_draws_others():
    one, again, other = (scenes(n=8, size=32, held_out=8, seed=seed) for seed in (0, 0, 1))
    assert (one.val.pixels == again.val.pixels).all()
    assert (one.val.pixels != one.test.pixels).any() and (one.train.pixels != other.train.pixels).any()


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (dict(size=15), "16 <= size <= 2048"),
        (dict(size=2049), "16 <= size <= 2048"),
        (dict(n=7), "8 <= n"),
        (dict(fewest=5, most=4), "fewest <= most"),
        (dict(most=41), "most <= 40"),
        (dict(smallest=0.4), "smallest <= largest"),
        (dict(largest=0.51), "largest <= 0.5"),
        (dict(size=16, largest=0.5), "at this size"),
        (dict(occlusion=1.5), "0 <= occlusion <= 1"),
        (dict(held_out=4), "8 <= held_out"),
        (dict(seed=-1), "seed >= 0"),
        (dict(noise=2.0), "0 <= noise <= 1"),
        (dict(rotation=200.0), "0 <= rotation <= 180"),
        (dict(contrast=0.9), "0 <= contrast <= 0.8"),
    ],
)
def test_impossible_options_are_refused(options, rule):
    with pytest.raises(ConfigError, match="scenes cannot be drawn with") as caught:
        scenes(**options)
    assert rule in str(caught.value)
