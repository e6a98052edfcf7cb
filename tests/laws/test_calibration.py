"""Calibration errors and temperatures equal what their equations say, and no temperature changes an answer."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from vitral.base.answers.one_class import ClassFigures, OneClass
from vitral.base.calibration import BINS, reliability, without_temperature
from vitral.base.temperature import FEWEST, FEWEST_WRONG, LARGEST, fit_temperature

SEEDS = st.integers(0, 2**31)
TEMPERATURES = st.floats(0.1, 10.0)


def answered(seed, n=300, k=5, temperature=1.0):
    """Logits whose softmax, with this temperature, says how often each class is right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * 2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return logits * temperature, labels


def softmax(logits):
    return OneClass().values(torch.from_numpy(logits)).numpy()


@given(SEEDS)
def test_bins_equal_those_of_scikit_learn_and_the_error_is_their_mean_gap(seed):
    logits, labels = answered(seed)
    values = softmax(logits)
    found = reliability(values, labels)
    sure, right = values.max(axis=1), values.argmax(axis=1) == labels
    accuracies, confidences = calibration_curve(right, sure, n_bins=BINS)
    bins = [one for one in found.bins if one.n]
    np.testing.assert_allclose([one.accuracy for one in bins], accuracies)
    np.testing.assert_allclose([one.confidence for one in bins], confidences)
    gaps = sum(one.n / len(labels) * abs(one.accuracy - one.confidence) for one in bins)
    assert found.error == pytest.approx(gaps)
    assert (found.confidence, found.accuracy) == pytest.approx((sure.mean(), right.mean()))


def test_a_perfectly_calibrated_model_shows_the_error_by_chance():
    errors, chance = [], []
    for seed in range(60):
        logits, labels = answered(seed, n=100)
        found = reliability(softmax(logits), labels)
        errors.append(found.error)
        chance.append(found.by_chance)
    assert np.mean(errors) == pytest.approx(np.mean(chance), rel=0.1) and np.mean(errors) > 0.05


def test_certain_and_wrong_is_the_largest_error():
    found = reliability(np.tile([1.0, 0.0], (9, 1)), np.ones(9, int))
    assert found.error == 1.0 and found.by_chance == 0.0 and "too sure" in found.tendency


@given(SEEDS, TEMPERATURES)
def test_no_temperature_changes_an_answer(seed, temperature):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy((rng.normal(size=(50, 4)) * 10 ** rng.uniform(-3, 1.5, (50, 1))).astype(np.float32))
    logits[0, 1:] = torch.nextafter(logits[0, 0], torch.tensor(-100.0))  # next to each other in single precision
    values = OneClass(temperature).values(logits)
    assert (values.argmax(dim=1) == logits.argmax(dim=1)).all()
    assert torch.allclose(values.sum(dim=1), torch.ones((), dtype=torch.float64))


@given(SEEDS, TEMPERATURES)
def test_probabilities_without_the_temperature_are_those_of_the_logits(seed, temperature):
    logits, _ = answered(seed, n=20)
    values = OneClass(temperature).values(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(without_temperature(values, temperature), softmax(logits), atol=1e-9)


@given(SEEDS, st.floats(0.3, 3.0))
def test_the_temperature_has_the_smallest_cross_entropy_and_scales_with_the_logits(seed, factor):
    logits, labels = answered(seed)
    fitted = fit_temperature(logits, labels)

    def loss(temperature):
        return ClassFigures(softmax(logits / temperature), labels).loss

    assert all(loss(fitted) <= loss(fitted * other) for other in (0.8, 0.97, 1.03, 1.25))
    assert fit_temperature(logits * factor, labels) == pytest.approx(fitted * factor)


def test_the_temperature_of_many_images_is_the_true_one():
    assert fit_temperature(*answered(0, n=20_000, temperature=2.5)) == pytest.approx(2.5, rel=0.03)


def test_where_nothing_can_be_fitted_a_reason_is_given():
    logits, labels = answered(0)
    few = fit_temperature(logits[: FEWEST - 1], labels[: FEWEST - 1])
    assert few == f"there are only {FEWEST - 1} validation images, and it takes {FEWEST}"
    right = logits.argmax(axis=1)
    right[: FEWEST_WRONG - 1] = (right[: FEWEST_WRONG - 1] + 1) % 5
    assert "only 4 of the 300 validation images are answered wrongly" in fit_temperature(logits, right)
    assert "do not say which answers are right" in fit_temperature(logits, logits.argmin(axis=1))
    assert "are infinite" in fit_temperature(np.where(logits < -3, -np.inf, logits), labels)
    lucky = logits.argmax(axis=1)
    lucky[:FEWEST_WRONG] = logits[:FEWEST_WRONG].argsort(axis=1)[:, -2]
    assert 1 / LARGEST < fit_temperature(logits, lucky) < 1  # nearly all right: surer than the model is


def test_figures_state_both_errors():
    logits, labels = answered(0, n=2_000, temperature=3.0)
    figures = ClassFigures(OneClass(3.0).values(torch.from_numpy(logits)).numpy(), labels, temperature=3.0)
    found = figures.to_json("abcde")["calibration"]
    assert found["error"] < 0.05 < 0.1 < found["error_without_temperature"]
    assert f"Without the temperature of 3 the error is {found['error_without_temperature']:.1%}." in (
        figures.calibration_text
    )
    plain = ClassFigures(softmax(logits), labels)
    assert plain.to_json("abcde")["calibration"]["error"] == pytest.approx(found["error_without_temperature"])
    assert "emperature" not in plain.calibration_text and "the model is too sure" in plain.calibration_text
