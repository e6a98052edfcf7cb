"""Laws of the distance from the training images."""

import numpy as np
import pytest

from vitral.base.feature_statistics import FALSE_ALARMS, FEWEST, FeatureStatistics, Gaussian, ImageFeatures


@pytest.mark.parametrize("d", [1, 2, 5, 30, 64])
def test_distance_is_that_of_the_inverse_covariance_and_invariant_to_invertible_linear_maps(d):
    rng = np.random.default_rng(d)
    x, new = rng.normal(size=(500, d)) * rng.uniform(0.5, 2, d) + rng.normal(size=d), rng.normal(size=(20, d)) * 3
    map_, shift = rng.normal(size=(d, d)) + 3 * np.eye(d) * np.sqrt(d), rng.normal(size=d)
    plain = Gaussian.fit(x).squared_distance(new)
    centred = new - x.mean(0)
    expected = np.einsum("nd,de,ne->n", centred, np.linalg.inv(np.atleast_2d(np.cov(x.T))), centred) / d
    np.testing.assert_allclose(plain, expected, rtol=1e-3)
    np.testing.assert_allclose(Gaussian.fit(x @ map_ + shift).squared_distance(new @ map_ + shift), plain, rtol=1e-3)


@pytest.mark.parametrize(("n", "d"), [(500, 10), (500, 200), (40, 200), (20, 5)])
def test_mean_distance_of_the_rows_it_was_fitted_to_is_at_most_one(n, d):
    x = np.random.default_rng(0).normal(size=(n, d)) * np.linspace(1, 3, d)
    assert 0 < Gaussian.fit(x).squared_distance(x).mean() <= 1.01


def test_a_direction_that_never_changes_does_not_give_infinity():
    x = np.random.default_rng(0).normal(size=(50, 4)) * [1, 1, 0, 0]
    found = Gaussian.fit(x).squared_distance(np.eye(4))
    assert np.isfinite(found).all() and found[2] > 1000 > found[0]
    assert np.isfinite(Gaussian.fit(np.zeros((5, 3))).squared_distance(np.ones((1, 3)))).all()


def drawn(rng, count, heads=True, scale=1.0):
    """Images whose own brightness and contrast differ, so that their patches are not independent."""
    contrast = rng.gamma(4.0, 1.0, (count, 1, 1)) * scale
    patches = rng.normal(size=(count, 9, 12)) * contrast + rng.normal(size=(count, 1, 1)) * scale
    return ImageFeatures(patches, rng.standard_t(4, (count, 7)) if heads else None)


@pytest.mark.parametrize("heads", [True, False])
@pytest.mark.parametrize("held_out", [FEWEST, 50, 200])
def test_false_alarms_on_exchangeable_images_are_at_most_five_percent(heads, held_out):
    rng = np.random.default_rng(held_out)
    alarms = []
    for _ in range(60):
        statistics = FeatureStatistics.fit(drawn(rng, 60, heads), drawn(rng, held_out, heads))
        alarms.append(np.mean([one.is_unlike for one in statistics.distances(drawn(rng, 200, heads))]))
    error = np.std(alarms) / np.sqrt(len(alarms))
    assert np.mean(alarms) <= FALSE_ALARMS + 2.5 * error
    assert np.mean(alarms) >= 0.4 * FALSE_ALARMS  # nor is the threshold so high that nothing is unlike


@pytest.mark.parametrize("training_scale", [0.3, 1.0, 3.0])
def test_false_alarms_hold_however_the_training_images_differ(training_scale):
    """A network knows its training images better than others; held-out images set the threshold."""
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(60):
        statistics = FeatureStatistics.fit(drawn(rng, 60, scale=training_scale), drawn(rng, 60))
        alarms.append(np.mean([one.is_unlike for one in statistics.distances(drawn(rng, 200))]))
    assert np.mean(alarms) <= FALSE_ALARMS + 2.5 * np.std(alarms) / np.sqrt(len(alarms))


@pytest.mark.parametrize("scale", [0.05, 20.0])
def test_images_that_are_too_plain_are_as_unlike_as_those_that_are_too_rich(scale):
    rng = np.random.default_rng(0)
    statistics = FeatureStatistics.fit(drawn(rng, 300, False), drawn(rng, 300, False))
    assert np.mean([one.is_unlike for one in statistics.distances(drawn(rng, 100, False, scale))]) > 0.9


@pytest.mark.parametrize("heads", [True, False])
def test_arrays_hold_everything(heads):
    rng = np.random.default_rng(0)
    statistics, new = FeatureStatistics.fit(drawn(rng, 60, heads), drawn(rng, 60, heads)), drawn(rng, 20, heads)
    again = FeatureStatistics.from_arrays(statistics.arrays)
    assert again.distances(new) == statistics.distances(new) and again.counts == (60, 60)
    broken = {**statistics.arrays, "patches.mean": np.zeros(3)}
    with pytest.raises(ValueError, match="patches"):
        FeatureStatistics.from_arrays(broken)
