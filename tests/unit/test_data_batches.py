"""Batches are determined by seed and number alone, and an epoch shows each image once."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitral.base.preprocessing import Preprocessing
from vitral.data.augmentation.none import none
from vitral.data.batches import batches, steps_in
from vitral.data.dataset import Split

RAW = Preprocessing(size=(2, 2), mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))  # pixels as they are
sizes, every_seed = st.integers(1, 40), st.integers(0, 2**31 - 1)


def numbered(n):
    """`n` images that each show their own number, and have it as their label."""
    numbers = np.arange(n)
    return Split(np.broadcast_to(numbers[:, None, None, None], (n, 2, 2, 3)).astype(np.uint8), numbers)


def shown(count, n, size, seed, start=0):
    """The numbers of the images in each of `count` batches."""
    feed = batches(numbered(n), RAW, size, seed, none, start)
    return [labels.tolist() for _, labels in islice(feed, count)]


@given(n=sizes, size=sizes, seed=every_seed)
def test_an_epoch_shows_no_image_twice_and_leaves_out_less_than_a_batch(n, size, seed):
    size = min(n, size)
    each = n // size
    for epoch in range(2):
        seen = [number for batch in shown(each, n, size, seed, epoch * each) for number in batch]
        assert len(seen) == len(set(seen)) == each * size > n - size


@given(n=sizes, seed=every_seed)
def test_an_epoch_of_whole_batches_shows_every_image(n, seed):
    assert sorted(number for batch in shown(n, n, 1, seed) for number in batch) == list(range(n))


@given(n=sizes, size=sizes, seed=every_seed, start=st.integers(0, 60))
def test_batches_from_a_number_are_those_of_an_unbroken_feed(n, size, seed, start):
    assert shown(start + 3, n, size, seed)[start:] == shown(3, n, size, seed, start)


@given(n=sizes, size=sizes, seed=every_seed)
def test_every_image_keeps_its_label(n, size, seed):
    for images, labels in islice(batches(numbered(n), RAW, size, seed, none), 3):
        assert images.shape == (min(n, size), 3, 2, 2)
        torch.testing.assert_close(images[:, 0, 0, 0], labels.float())


def test_epochs_have_different_orders_and_so_have_seeds():
    first, second = shown(4, 40, 20, 0)[:2], shown(4, 40, 20, 0)[2:]
    assert first != second
    assert shown(2, 40, 20, 1) != first


def test_an_augmentation_is_seeded_by_the_number_of_the_batch():
    seeds = []

    def note(images, masks, generator):
        seeds.append(generator.initial_seed())
        return images, masks

    for start in (0, 5):
        list(islice(batches(numbered(8), RAW, 4, 3, note, start), 10 - start))
    assert len(set(seeds[:10])) == 10
    assert seeds[5:10] == seeds[10:]


def test_an_augmentation_changes_what_the_model_gets():
    feed = batches(numbered(8), RAW, 4, 0, lambda images, masks, generator: (images + 100, masks))
    assert (next(feed)[0] >= 100).all()


@pytest.mark.parametrize(
    ("n", "size", "epochs", "expected"),
    [(100, 10, 1, 10), (100, 30, 1, 3), (100, 30, 2.5, 8), (100, 1000, 3, 3), (100, 10, 0.001, 1), (7, 7, 0.5, 1)],
)
def test_the_number_of_steps_is_that_of_the_whole_batches(n, size, epochs, expected):
    assert steps_in(numbered(n), size, float(epochs)) == expected
