"""Figures of exclusive classes equal scikit-learn's, and no class without images has a share."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from vitral.base.answers.one_class import ClassFigures

SEEDS = st.integers(0, 2**31)


def drawn(seed, n=40, k=5, absent=0):
    """Random probabilities; the last `absent` classes have no image."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k - absent, n)
    return ClassFigures(rng.dirichlet(np.ones(k), n), labels)


@given(SEEDS, st.integers(0, 3))
def test_figures_equal_those_of_scikit_learn(seed, absent):
    figures = drawn(seed, absent=absent)
    labels, answers = figures.labels, figures.answers
    with warnings.catch_warnings(action="ignore"):  # of classes that are predicted, but have no image
        assert figures.balanced == pytest.approx(metrics.balanced_accuracy_score(labels, answers))
        found = metrics.precision_recall_fscore_support(labels, answers, labels=range(5), zero_division=np.nan)
    assert (figures.confusion == metrics.confusion_matrix(labels, answers, labels=range(5))).all()
    np.testing.assert_allclose(figures.precision, found[0])
    np.testing.assert_allclose(figures.recall, found[1])
    tested = ~np.isnan(figures.f1)
    assert (tested == (found[3] > 0)).all()
    np.testing.assert_allclose(figures.f1[tested], np.nan_to_num(found[2][tested]))


@given(SEEDS)
def test_the_majority_is_right_as_often_as_its_images_are_frequent_and_balanced_no_better_than_guessing(seed):
    figures = drawn(seed)
    most, share = figures.majority
    always = ClassFigures(np.tile(np.eye(5)[most], (40, 1)), figures.labels)
    assert always.accuracy == pytest.approx(share)
    assert always.balanced == pytest.approx(1 / len(np.unique(figures.labels)))


@given(SEEDS)
def test_intervals_hold_their_values(seed):
    figures = drawn(seed)
    for value, (low, high) in ((figures.accuracy, figures.interval), (figures.balanced, figures.balanced_interval)):
        assert low <= value <= high


def test_the_interval_of_the_balanced_accuracy_holds_the_true_value_19_times_of_20():
    """Classes of very different size, one of them nearly always right, as a bootstrap over images gets wrong."""
    rng, counts, chances = np.random.default_rng(0), np.array([60, 30, 4, 4]), np.array([0.9, 0.6, 0.98, 0.3])
    held = 0
    for _ in range(400):
        labels = np.repeat(np.arange(4), counts)
        answers = np.where(rng.random(len(labels)) < chances[labels], labels, (labels + 1) % 4)
        low, high = ClassFigures(np.eye(4)[answers], labels).balanced_interval
        held += low <= chances.mean() <= high
    assert held / 400 > 0.92


def test_no_class_is_certain_from_few_images():
    """One class never found, three always: resampled images all show the same."""
    labels = np.repeat(np.arange(4), 6)
    low, high = ClassFigures(np.eye(4)[labels % 3], labels).balanced_interval
    assert low < 0.7 and high > 0.8
    low, high = ClassFigures(np.eye(2)[[0]], np.array([0])).balanced_interval
    assert low < 0.5 and high == pytest.approx(1)


def test_a_class_without_images_is_not_tested():
    figures = drawn(0, absent=1)
    lines = figures.lines("abcde")
    assert "not tested" in lines[-1] and "0.0%" not in lines[-1].split("most often")[0]
    assert figures.to_json("abcde")["per_class"]["e"]["recall"] is None


def test_a_rare_class_that_is_never_found_shows_in_the_summary():
    labels = np.array([0] * 45 + [1] * 2)
    figures = ClassFigures(np.tile([0.9, 0.1], (47, 1)), labels)
    assert figures.summary(("ok", "defect")).startswith(
        "accuracy 95.7% (95% interval 85.8% to 98.8%), balanced accuracy 50.0%"
    )
    assert figures.baseline(("ok", "defect")).endswith("accuracy 95.7%, balanced accuracy 50.0%")
    assert "never predicted" in figures.lines(("ok", "defect"))[1]
