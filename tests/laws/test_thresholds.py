"""Thresholds chosen on validation images keep their promise on others, and labels to look at are those exchanged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from vitral.base.abstention import choose_abstention, judge_abstention, levels_of
from vitral.base.calibration import Calibration
from vitral.base.errors import ConfigError
from vitral.base.f1_thresholds import FEWEST_POSITIVE, f1_thresholds
from vitral.base.likely_mislabels import FEWEST, likely_mislabels

SEEDS = st.integers(0, 2**31)


def binary(seed, n=80, digits=1):
    """Probabilities with ties, and labels that have something to do with them."""
    rng = np.random.default_rng(seed)
    chances = rng.random((n, 3)).round(digits)
    return chances, rng.random((n, 3)) < chances


def classified(seed, n=200, k=3, power=8.0):
    """Probabilities of classes that are right as often as they say."""
    rng = np.random.default_rng(seed)
    values = rng.dirichlet(np.ones(k) / power, n)
    return values, (values.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


@given(SEEDS)
def test_no_threshold_has_a_higher_f1(seed):
    chances, labels = binary(seed)
    thresholds, kept = f1_thresholds(chances, labels, 0.5)
    assert not kept
    for threshold, own, has in zip(thresholds, chances.T, labels.T):
        best = max(f1_score(has, own >= other) for other in np.unique(own))
        assert f1_score(has, own >= threshold) == pytest.approx(best) and not (own == threshold).any()


@given(SEEDS)
def test_thresholds_follow_the_order_only(seed):
    chances, labels = binary(seed)
    straight, _ = f1_thresholds(chances, labels, 0.5)
    bent, _ = f1_thresholds(chances**3, labels, 0.5)
    for index in range(3):
        given_class = chances[:, index] >= straight[index]
        assert (given_class == (chances[:, index] ** 3 >= bent[index])).all()


@pytest.mark.parametrize("positive", [0, FEWEST_POSITIVE - 1, 80 - FEWEST_POSITIVE + 1, 80])
def test_a_class_with_few_images_on_one_side_keeps_its_threshold(positive):
    chances, _ = binary(0)
    labels = np.tile(np.arange(80)[:, None] < positive, (1, 3))
    assert f1_thresholds(chances, labels, 0.5) == ((0.5, 0.5, 0.5), [0, 1, 2])


@given(SEEDS)
def test_levels_count_the_images_that_reach_them(seed):
    values, labels = classified(seed)
    levels = levels_of(values, labels)
    sure, right = values.max(axis=1), values.argmax(axis=1) == labels
    assert levels[0] == (0.0, len(labels), right.sum()) and len(levels) <= 100
    assert [level for level, *_ in levels] == sorted({level for level, *_ in levels})
    for level, reached, correct in levels:
        assert (reached, correct) == ((sure >= level).sum(), right[sure >= level].sum())


def test_other_images_are_answered_as_accurately_as_was_asked_for():
    """In most draws; each threshold that happens to be right often enough would keep it in half of them."""
    kept = []
    for seed in range(100):
        chosen = choose_abstention(Calibration(200, levels=levels_of(*classified(seed))), 0.9, "m")
        others = judge_abstention(chosen, *classified(1_000 + seed, n=5_000))
        kept.append(others.right / others.reached >= 0.9)
    assert np.mean(kept) > 0.9


def test_what_few_images_cannot_show_is_not_promised():
    sure = np.tile([0.99, 0.01], (20, 1))
    calibration = Calibration(20, levels=levels_of(sure, np.zeros(20, int)))
    assert choose_abstention(calibration, 0.8, "m").reached == 20
    with pytest.raises(
        ConfigError, match=r"the 20 validation images of m do not show .* highest that they show is 0\.838 "
    ):
        choose_abstention(calibration, 0.95, "m")
    for nothing in (None, Calibration(20)):
        with pytest.raises(ConfigError, match="m does not record it"):
            choose_abstention(nothing, 0.5, "m")


def test_an_accuracy_that_other_images_do_not_reach_is_reported():
    values, labels = classified(0)
    chosen = choose_abstention(Calibration(200, levels=levels_of(values, labels)), 0.9, "m")
    assert "requested" not in judge_abstention(chosen, values, labels).text()
    assert "fewer than the 90.0% that were requested" in judge_abstention(chosen, values, (labels + 1) % 3).text()
    assert judge_abstention(chosen, np.full((4, 3), 1 / 3), labels[:4]).to_json()["accuracy"] is None


@given(SEEDS)
def test_exchanged_labels_are_those_to_look_at(seed):
    rng = np.random.default_rng(seed)
    true = np.repeat(np.arange(4), 25)
    values = np.full((100, 4), 0.02)
    values[np.arange(100), true] = 0.94 + rng.uniform(-0.01, 0.01, 100)
    labels, exchanged = true.copy(), rng.integers(25, size=4) + np.arange(0, 100, 25)  # one per class
    labels[exchanged] = (true[exchanged] + 1) % 4
    found = likely_mislabels(values, labels)
    assert {one.index for one in found} == set(exchanged)
    assert all(one.suggested == true[one.index] and one.label == labels[one.index] for one in found)
    assert [one.own - one.probability for one in found] == sorted(one.own - one.probability for one in found)
    order = rng.permutation(4)  # the names of classes do not matter
    renamed = likely_mislabels(values[:, order], order.argsort()[labels])
    assert {one.index for one in renamed} == set(exchanged)


@given(SEEDS)
def test_the_model_is_surer_of_the_suggested_class_than_of_the_label(seed):
    """As the text beside the list says: also where it is less sure of an image than of others of its class."""
    rng = np.random.default_rng(seed)
    values, labels = rng.dirichlet(np.ones(3), 60), rng.integers(0, 3, 60)
    values[labels == 0] = rng.dirichlet((9, 1, 1), int((labels == 0).sum()))
    assert all(one.probability > one.own for one in likely_mislabels(values, labels))


def test_a_class_with_too_few_images_is_not_suggested():
    values = np.tile([0.1, 0.9], (30, 1))
    labels = np.array([0] * (30 - FEWEST + 1) + [1] * (FEWEST - 1))
    assert likely_mislabels(values, labels) == []
    labels[0] = 1
    assert likely_mislabels(values, labels)
