"""`cued` can be drawn again with one thing changed, and nothing but the dot says which shape counts."""

import numpy as np
import pytest

from vitral.data.synthetic.cued import cued, erase_shape, move_cue, shape_masks

N = 600


@pytest.fixture(scope="module")
def split():
    return cued(n=N).train


def test_only_one_shape_counts_and_all_are_of_different_classes(split):
    classes, marked = split.factors["each class"], split.factors["marked"]
    assert classes.shape == (N, 3)
    assert (np.diff(np.sort(classes, axis=1), axis=1) > 0).all()
    assert (split.labels == classes[np.arange(N), marked]).all()
    assert np.bincount(marked).min() > N / 4


def test_shapes_do_not_touch(split):
    masks = shape_masks(split)
    assert masks.sum(axis=1).max() == 1
    assert (masks[np.arange(N), split.factors["marked"]] == split.masks).all()


def test_drawn_again_it_is_the_same_to_the_byte(split):
    again = move_cue(split, split.factors["marked"])
    assert (again.pixels == split.pixels).all() and (again.labels == split.labels).all()


@pytest.mark.parametrize("step", [0, 1, 2])
def test_without_a_shape_only_its_place_changes(split, step):
    which = (split.factors["marked"] + step) % 3
    gone = erase_shape(split, which)
    changed = (gone != split.pixels).any(-1)
    own = shape_masks(split)[np.arange(N), which]
    near = np.pad(own, ((0, 0), (3, 3), (3, 3)))
    near = np.any([near[:, y : y + 48, x : x + 48] for y in range(7) for x in range(7)], axis=0)
    assert not (changed & ~near).any()  # its soft edge, and the dot of a ring
    assert (changed & own).sum() > 0.95 * own.sum()


def test_with_the_dot_on_another_only_two_dots_change(split):
    other = (split.factors["marked"] + 1) % 3
    moved = move_cue(split, other)
    assert (moved.labels == split.factors["each class"][np.arange(N), other]).all()
    assert (moved.masks == shape_masks(split)[np.arange(N), other]).all()
    changed = (moved.pixels != split.pixels).any(-1).sum((1, 2))
    assert changed.max() < 2 * 6**2 and changed.min() > 20


def test_the_shape_that_counts_has_no_stronger_edges(split):
    """Squared differences of neighbours inside each shape's mask: the marked one's share is a third."""
    pixels = split.pixels.astype(float)
    energy = np.zeros(pixels.shape[:3])
    energy[:, :-1] += (np.diff(pixels, axis=1) ** 2).sum(-1)
    energy[:, :, :-1] += (np.diff(pixels, axis=2) ** 2).sum(-1)
    each = (shape_masks(split) * energy[:, None]).sum((2, 3))
    share = each[np.arange(N), split.factors["marked"]] / each.sum(1)
    assert abs(share.mean() - 1 / 3) < 0.02
