"""Times that were measured in turns: percentiles, intervals, and what cannot be told apart."""

import math
from itertools import pairwise

import numpy as np
import pytest

from vitral.exporting.speed.process import WayProcess
from vitral.exporting.speed.rounds import Turns, plan, thread_settings
from vitral.exporting.speed.statistics import FEWEST, compare, median_interval, percentile, sentence


@pytest.mark.parametrize("n", [1, 7, 99, 100, 101, 250])
def test_a_percentile_is_a_time_that_was_measured(n):
    times = np.random.default_rng(n).exponential(size=n).tolist()
    for share in (0.5, 0.9, 0.99):
        found = percentile(times, share)
        below = sum(time <= found for time in times)
        assert found in times and below >= share * n > below - 1
    assert percentile(times, 0.99) == max(times) if n < 100 else percentile(times, 0.99) < max(times)
    assert percentile(times, 0.0) == min(times) and percentile(times, 1.0) == max(times)


@pytest.mark.parametrize("n", [6, 9, 12, 25])
def test_the_interval_holds_the_median_at_least_95_times_in_100(n):
    """By its definition, of any continuous distribution: here over all signs of n differences, by simulation."""
    drawn = np.random.default_rng(0).exponential(size=(4000, n))
    ends = np.array([median_interval(row.tolist()) for row in drawn])
    holds = ((ends[:, 0] <= math.log(2)) & (math.log(2) <= ends[:, 1])).mean()
    assert 0.94 < holds < 0.995
    assert all(end in row for row, both in zip(drawn[:5], ends) for end in both)


def test_fewer_than_six_rounds_tell_nothing_apart():
    assert median_interval([1.0] * (FEWEST - 1)) == (-math.inf, math.inf)
    assert median_interval([1.0] * FEWEST) == (1.0, 1.0)
    few = {"fast": np.ones(5), "slow": np.full(5, 9.0)}
    assert compare(few)[1].is_noise and not compare({name: np.resize(t, 6) for name, t in few.items()})[1].is_noise


def test_ways_are_compared_round_by_round():
    """A machine that becomes three times slower hides nothing; noise of a tenth hides three percent."""
    slower, rng = np.linspace(1, 3, 12), np.random.default_rng(0)
    times = {"a": slower, "b": 1.03 * slower, "c": 2 * slower}
    first, second, third = compare(times)
    assert (first.name, second.name, third.name) == ("a", "b", "c")
    assert second.ratio == pytest.approx(1.03) and not second.is_noise and third.low == pytest.approx(2)
    noisy = {name: time * rng.uniform(0.9, 1.1, 12) for name, time in times.items()}
    _, middle, last = compare(noisy)
    assert middle.is_noise and not last.is_noise and last.name == "c"


def test_the_sentence_names_what_to_take_or_what_cannot_be_told_apart():
    slow, fast, same = np.full(8, 3.0), np.ones(8), np.array([0.9, 1.1] * 4)
    text = sentence(1, compare({"slow": slow, "fast": fast}))
    assert text == "at batch 1 take fast: 3.00 times as fast as the next, slow (3.00 to 3.00)"
    text = sentence(8, compare({"fast": fast, "same": same, "slow": slow}))
    assert text == "at batch 8 fast and same cannot be told apart and are faster than the others"
    assert sentence(8, compare({"fast": fast, "same": same})) == "at batch 8 fast and same cannot be told apart"
    assert sentence(2, compare({"fast": fast})) == "at batch 2 only fast was measured"


def test_the_next_is_the_one_that_is_nearest():
    """Not the second by its own median, which another round may have been slow for."""
    times = {"a": np.ones(9), "b": np.full(9, 1.5), "c": np.full(9, 1.2)}
    assert "1.20 times as fast as the next, c" in sentence(1, compare(times))


@pytest.mark.parametrize("cores", [1, 2, 3, 6, 64, 96])
def test_numbers_of_threads(cores):
    found = thread_settings(cores)
    assert found[0] == 1 and found[-1] == cores and list(found) == sorted(set(found))
    assert len(found) <= 10 and all(low >= high / 2 for low, high in pairwise(found))


def turns(*seconds):
    no_process = object.__new__(WayProcess)
    return [Turns("way", no_process, 1, 1, each, None) for each in seconds]


def test_a_budget_is_shared_and_never_less_than_six_rounds():
    some = turns(0.001, 0.1)
    assert plan(some, 60.0) == 12 and some[0].passes == 100 and some[1].passes == 24
    slow = turns(10.0)
    assert plan(slow, 60.0) == FEWEST and slow[0].passes == 1
