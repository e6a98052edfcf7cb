"""What every file in `data/mixing` keeps; a new one is enrolled by existing."""

from itertools import islice

import numpy as np
import pytest
import torch

from vitral.base.errors import UsageError
from vitral.base.lookup import find, names
from vitral.base.preprocessing import Preprocessing
from vitral.data.augmentation.photo import photo
from vitral.data.batches import batches
from vitral.data.dataset import Split
from vitral.data.mix import Mix, as_shares, check_mix, find_mix
from vitral.data.mixing.mixup import mixup

ALL = names("data.mixing")
COUNT = 24


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=ALL)
def name(request):
    return request.param


@pytest.fixture
def mix(name):
    return find("data.mixing", name, "way to mix")


@pytest.fixture
def plain():
    """Images of one grey each, all different, and each a class of its own."""
    greys = torch.arange(COUNT, dtype=torch.uint8) * 10
    return greys[:, None, None, None].expand(-1, 3, 20, 30).clone(), as_shares(torch.arange(COUNT), COUNT)


def test_every_way_to_mix_satisfies_the_protocol(mix):
    assert isinstance(mix, Mix)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 8.0])
def test_shares_of_classes_are_the_shares_of_the_pixels(mix, plain, alpha):
    """The mean grey of a mixed image is that of its classes, to the rounding of a pixel."""
    images, targets = plain
    for seed in range(4):
        mixed, shares = mix(images, targets, generator(seed), alpha=alpha)
        expected = shares @ (torch.arange(COUNT) * 10.0)
        torch.testing.assert_close(mixed.float().mean(dim=(1, 2, 3)), expected, atol=0.51, rtol=0)
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(COUNT))
        assert ((shares > 0).sum(dim=1) <= 2).all()


def test_images_are_mixed_with_others_and_each_by_its_own_share(mix, plain):
    _, shares = mix(*plain, generator(0), alpha=1.0)
    largest = shares.amax(dim=1)
    assert (largest < 0.999).float().mean() > 0.5 and len(largest.unique()) > COUNT / 2


def test_a_large_alpha_mixes_in_halves_and_a_small_one_hardly(plain):
    nearly = [mixup(*plain, generator(1), alpha=alpha)[1].amax(dim=1).mean() for alpha in (0.01, 50.0)]
    assert nearly[0] > 0.95 and nearly[1] < 0.8


def test_shapes_and_types_stay_and_what_was_given_is_left_as_it_is(mix, plain):
    images, targets = plain
    before = images.clone(), targets.clone()
    mixed, shares = mix(images, targets, generator(0))
    assert (mixed.shape, mixed.dtype) == (images.shape, images.dtype)
    assert (shares.shape, shares.dtype) == (targets.shape, targets.dtype)
    assert torch.equal(images, before[0]) and torch.equal(targets, before[1])


def test_all_randomness_is_the_generators(mix, plain):
    torch.manual_seed(1)
    first = mix(*plain, generator(7))
    torch.manual_seed(2)
    second = mix(*plain, generator(7))
    assert all(torch.equal(*pair) for pair in zip(first, second))
    assert not torch.equal(mix(*plain, generator(8))[0], first[0])
    rng = generator(0)
    assert not torch.equal(mix(*plain, rng)[1], mix(*plain, rng)[1])


def test_nobody_elses_random_numbers_are_touched(mix, plain):
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    mix(*plain, generator(0))
    assert torch.equal(torch.rand(4), expected)


def test_several_classes_of_an_image_are_mixed_each(mix, plain):
    labels = torch.rand(COUNT, 3, generator=generator(2)) < 0.5
    _, shares = mix(plain[0], as_shares(labels, 3), generator(0), alpha=1.0)
    assert ((shares >= 0) & (shares <= 1)).all() and ((shares > 0) & (shares < 1)).any()


@pytest.mark.parametrize("start", [1, 5, 9])
def test_pairs_depend_on_seed_and_number_only(mix, start):
    """Three batches per epoch: a run that goes on in the middle of one sees the same pairs."""
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (26, 8, 8, 3)).astype(np.uint8), rng.integers(0, 4, 26))

    def feed(first):
        return batches(split, Preprocessing((8, 8)), 8, 3, photo, first, mix=mix, classes=4)

    unbroken = list(islice(feed(0), start, start + 3))
    for (images, shares), (again, same) in zip(unbroken, islice(feed(start), 3)):
        assert torch.equal(images, again) and torch.equal(shares, same) and shares.shape == (8, 4)


def test_what_has_no_classes_is_refused(name):
    for task, labels in (("numbers", "are numbers"), ("segmentation", "are masks")):
        with pytest.raises(UsageError, match=f"--mix {name} mixes the classes of images; the labels of x {labels}"):
            check_mix(name, task, "x")
        check_mix("none", task, "x")
    for task in ("one class", "several classes"):
        check_mix(name, task, "x")


def test_none_is_no_way_to_mix():
    assert find_mix("none") is None
    assert "none" not in ALL
