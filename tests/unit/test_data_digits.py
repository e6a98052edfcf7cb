"""The digits are split without loss or overlap, each digit in the same shares."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vitral.base.errors import ConfigError
from vitral.data.digits import digits


def parts(seed=0):
    data = digits(seed)
    return data.train, data.val, data.test


def test_the_splits_hold_all_1797_scans_between_them():
    """As many equal images as in the original, so that none is there twice or missing."""
    together = np.concatenate([split.pixels for split in parts()])[..., 0]
    original = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    assert len(together) == 1797
    assert sorted(map(bytes, together)) == sorted(map(bytes, original))


def test_the_splits_share_no_scan():
    seen = [set(map(bytes, split.pixels)) for split in parts()]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_every_split_has_every_digit_in_its_share():
    count = np.bincount(load_digits().target)
    for split, share in zip(parts(), (0.64, 0.16, 0.2)):
        assert len(split) == pytest.approx(1797 * share, abs=5)
        assert np.abs(np.bincount(split.labels) - count * share).max() <= 1.5


def test_labels_and_pixels_are_of_the_same_scan():
    known = {bytes(np.round(image * (255 / 16)).astype(np.uint8)): label for image, label in zip(*load_both())}
    for split in parts():
        assert [known[bytes(image)] for image in np.ascontiguousarray(split.pixels[..., 0])] == split.labels.tolist()


def load_both():
    scans = load_digits()
    return scans.images, scans.target


def test_pixels_are_grey_from_black_to_white():
    for split in parts():
        assert split.pixels.dtype == np.uint8 and split.pixels.shape[1:] == (8, 8, 3)
        assert (split.pixels == split.pixels[..., :1]).all()
        assert split.pixels.min() == 0 and split.pixels.max() == 255


def test_a_seed_draws_its_own_split_and_the_same_again():
    assert (parts(1)[2].pixels == parts(1)[2].pixels).all()
    assert set(map(bytes, parts(1)[2].pixels)) != set(map(bytes, parts(0)[2].pixels))


def test_a_seed_below_zero_is_refused():
    with pytest.raises(ConfigError, match="seed"):
        digits(seed=-1)
