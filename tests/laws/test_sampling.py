"""Balanced sampling: each class equally often, and of a class each image before any again."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitral.data.batches import balanced_order


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 1000))
def test_classes_are_even_and_images_within_a_class_as_well(counts, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    order = balanced_order(labels, np.random.default_rng(seed))
    assert len(order) == len(labels)
    drawn = np.bincount(labels[order], minlength=len(counts))
    assert drawn.max() - drawn.min() <= 1
    for label in range(len(counts)):
        own = np.bincount(order[labels[order] == label], minlength=len(labels))[labels == label]
        assert own.max() - own.min() <= 1


def test_a_class_without_images_takes_no_share():
    order = balanced_order(np.array([0, 0, 0, 3]), np.random.default_rng(0))
    assert sorted(np.bincount(np.array([0, 0, 0, 3])[order], minlength=4).tolist()) == [0, 0, 2, 2]


def test_what_does_not_divide_goes_to_other_classes_in_turn():
    labels = np.repeat(np.arange(3), [5, 5, 1])
    extra = {tuple(np.bincount(labels[balanced_order(labels, np.random.default_rng(seed))])) for seed in range(20)}
    assert len(extra) == 3
