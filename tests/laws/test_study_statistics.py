"""Intervals have the stated coverage, corrections hold, and rules rarely decide wrongly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vitral.base.p_values import holm
from vitral.studies.decision_rules import Beyond, Exactly, Within
from vitral.studies.results import verdict_of
from vitral.studies.statistics import t_interval, t_quantile, t_tail

TRIALS = 4_000


@given(st.floats(-60, 60), st.integers(1, 40))
def test_the_tail_is_students(t, df):
    assert t_tail(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-9, abs=1e-14)


@given(st.floats(0.51, 0.9995), st.integers(1, 40))
def test_the_quantile_is_students(p, df):
    assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-7)


def test_an_interval_needs_two_values():
    with pytest.raises(ValueError, match="at least two values"):
        t_tail(1.0, 0)
    assert t_interval([0.3]) == (-np.inf, np.inf)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9))
def test_the_interval_is_students(values):
    spread = np.std(values, ddof=1)
    if spread > 1e-3:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), spread / np.sqrt(len(values)))
        assert t_interval(values) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


def test_equal_values_give_an_interval_as_wide_as_the_images_allow():
    low, high = t_interval([0.9, 0.9, 0.9])
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, 2) * 1e-3 / np.sqrt(3))


@pytest.mark.parametrize("n", [3, 5])
def test_intervals_over_seeds_cover_a_known_effect(n):
    draws = np.random.default_rng(n).normal(0.03, 0.02, (TRIALS, n))
    low, high = np.array([t_interval(values) for values in draws]).T
    assert 0.93 <= np.mean((low <= 0.03) & (high >= 0.03)) <= 0.97


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_follows_its_definition(ps):
    corrected = holm(ps)
    order = np.argsort(ps, kind="stable")
    steps = [(len(ps) - rank) * ps[place] for rank, place in enumerate(order)]
    for rank, place in enumerate(order):
        assert corrected[place] == pytest.approx(min(1.0, max(steps[: rank + 1])))
    assert all(own >= p for own, p in zip(corrected, ps))


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("count", [1, 4])
def test_rules_decide_wrongly_at_most_one_time_in_twenty(n, count):
    """The true effect is at the border of every hypothesis, where any verdict is wrong."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(TRIALS // count):
        decided = [Beyond(0.02).decide(rng.normal(0.02, 0.01, n)) for _ in range(count)]
        corrected = holm([one.p for one in decided])
        wrong += any(verdict_of(one, p) != "inconclusive" for one, p in zip(decided, corrected))
    assert wrong / (TRIALS // count) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 * count / TRIALS)


@pytest.mark.parametrize("truth", [-0.02, 0.02])
def test_equivalence_is_rarely_found_at_its_border(truth):
    rng = np.random.default_rng(2)
    found = [Within(0.02).decide(rng.normal(truth, 0.005, 4)) for _ in range(TRIALS)]
    assert np.mean([verdict_of(one, one.p) != "inconclusive" for one in found]) <= 0.06


@pytest.mark.parametrize(
    ("rule", "values", "verdict"),
    [
        (Beyond(0.02), [0.10, 0.11, 0.12], "supported"),
        (Beyond(0.02), [-0.10, -0.11, -0.12], "refuted"),
        (Beyond(0.02), [0.001, 0.0, 0.002], "refuted"),
        (Beyond(0.02), [-0.2, 0.1, 0.3], "inconclusive"),
        (Within(0.02), [0.001, 0.0, -0.001], "supported"),
        (Within(0.02), [0.10, 0.11, 0.12], "refuted"),
        (Within(0.02), [-0.10, -0.11, -0.12], "refuted"),
        (Within(0.02), [0.0, 0.02, 0.04], "inconclusive"),
        (Exactly(1e-6), [1e-9, -1e-9], "holds"),
        (Exactly(1e-6), [1e-9, 1e-3], "broken"),
    ],
)
def test_clear_cases_get_their_verdict(rule, values, verdict):
    decided = rule.decide(values)
    assert verdict_of(decided, decided.p) == verdict


def test_one_hypothesis_is_decided_by_the_plain_interval():
    """Without other hypotheses, a rule decides exactly if the 95 % interval is beyond its border."""
    rng = np.random.default_rng(3)
    for values in rng.normal(0.03, 0.02, (500, 4)):
        low, high = t_interval(values)
        decided = Beyond(0.02).decide(values)
        assert verdict_of(decided, decided.p) == (
            "supported" if low > 0.02 else "refuted" if high < 0.02 else "inconclusive"
        )
