"""Which of several ways is faster, from times that were measured in turns, and whether that is more than noise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

FEWEST = 6  # rounds, below which no order of the times has a 95 % interval


@dataclass(frozen=True)
class Ratio:
    """A way's seconds over those of the fastest, in the middle round, with the 95 % interval."""

    name: str
    ratio: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds 1: the two cannot be told apart."""
        return self.low <= 1


def percentile(seconds: Sequence[float], share: float) -> float:
    """The smallest time that at least so many of all reach (nearest rank): of fewer than 100, p99 is the slowest.

    >>> percentile([3.0, 1.0, 2.0, 4.0], 0.5), percentile([3.0, 1.0, 2.0, 4.0], 0.99)
    (2.0, 4.0)
    """
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median, whatever the distribution; infinitely wide below 6 values.

    Its ends are the k-th smallest and the k-th largest value (Conover 1999, "Practical Nonparametric Statistics",
    §3.2).

    >>> median_interval([5.0, 1.0, 2.0, 4.0, 3.0, 6.0])
    (1.0, 6.0)
    >>> median_interval([1.0, 2.0, 3.0])
    (-inf, inf)
    """
    n, below, k = len(values), 0.0, 0
    while (below := below + math.comb(n, k) / 2**n) <= 0.025:
        k += 1
    if not k:
        return -math.inf, math.inf
    ordered = sorted(values)
    return float(ordered[k - 1]), float(ordered[n - k])


def compare(rounds: Mapping[str, Float[np.ndarray, " r"]]) -> list[Ratio]:
    """Each way against the fastest, by its median, the fastest first; times of one round stand in one place.

    The machine is not equally fast all the time, which hits all ways of one round: ratios are taken round by round.

    >>> slow, fast = np.arange(10.0, 18.0), np.arange(5.0, 9.0, 0.5)
    >>> [(one.name, one.ratio, one.is_noise) for one in compare({"slow": slow, "fast": fast})]
    [('fast', 1.0, True), ('slow', 2.0, False)]
    """
    ordered = sorted(rounds, key=lambda name: float(np.median(rounds[name])))
    found = []
    for name in ordered:
        ratios = rounds[name] / rounds[ordered[0]]
        found.append(Ratio(name, float(np.median(ratios)), *median_interval(ratios.tolist())))
    return found


def sentence(batch: int, ratios: Sequence[Ratio]) -> str:
    """Which way to take for a batch, or which cannot be told apart.

    >>> sentence(8, [Ratio("a", 1.0, 1.0, 1.0), Ratio("b", 1.5, 1.4, 1.6)])
    'at batch 8 take a: 1.50 times as fast as the next, b (1.40 to 1.60)'
    >>> sentence(8, [Ratio("a", 1.0, 1.0, 1.0), Ratio("b", 1.1, 0.9, 1.6)])
    'at batch 8 a and b cannot be told apart'
    """
    best, *others = ratios
    tied = [one.name for one in others if one.is_noise]
    if not others:
        return f"at batch {batch} only {best.name} was measured"
    if not tied:
        nearest = min(others, key=lambda one: one.ratio)
        return (
            f"at batch {batch} take {best.name}: {nearest.ratio:.2f} times as fast as the next, {nearest.name} "
            f"({nearest.low:.2f} to {nearest.high:.2f})"
        )
    rest = " and are faster than the others" if len(tied) < len(others) else ""
    return f"at batch {batch} {', '.join([best.name, *tied[:-1]])} and {tied[-1]} cannot be told apart{rest}"
