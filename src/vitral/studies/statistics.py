"""Intervals and corrections, written out: what a handful of seeds can and cannot tell.

Axes:  n values   s draws
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

LEVEL = 0.95
LEAST_SPREAD = 1e-3  # two thousand test images cannot tell accuracies nearer than this: seeds that agree prove no more


def tail(t: float, df: int) -> float:
    """The probability that Student's t with `df` degrees of freedom is above `t`.

    The finite series for whole numbers of degrees (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4). Raises `ValueError`
    for no degree of freedom.
    """
    if df < 1:
        raise ValueError(f"{df} degrees of freedom tell nothing: it takes two values at least.")
    angle = math.atan(abs(t) / math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = (1.0, 0.0) if df % 2 == 0 else (cosine, 0.0)
    for power in range(df % 2, df - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    between = sine * total if df % 2 == 0 else 2 / math.pi * (angle + sine * total)
    above = (1 - between) / 2
    return above if t >= 0 else 1 - above


def quantile(p: float, df: int) -> float:
    """The t that is exceeded with probability 1 - `p`, by bisection; `p` in (0.5, 1)."""
    low, high = 0.0, 1.0
    while tail(high, df) > 1 - p:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, df) > 1 - p else (low, middle)
    return (low + high) / 2


def t_interval(values: Sequence[float] | Float[np.ndarray, " n"], level: float = LEVEL) -> tuple[float, float]:
    """Student's interval of the mean; one value gives no interval, but infinities."""
    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return -math.inf, math.inf
    spread = max(float(found.std(ddof=1)), LEAST_SPREAD)
    half = quantile(0.5 + level / 2, len(found) - 1) * spread / math.sqrt(len(found))
    return float(found.mean()) - half, float(found.mean()) + half


def bootstrap_interval(
    values: Float[np.ndarray, " n"],
    statistic: Callable[[Float[np.ndarray, "s n"]], Float[np.ndarray, " s"]] = lambda drawn: drawn.mean(axis=1),
    level: float = LEVEL,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of a statistic over values drawn again with replacement (Efron 1979).

    For many values, such as images; of a handful, such as seeds, it is too narrow, and `t_interval` is not.
    """
    found = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).choice(found, (draws, len(found)))
    low, high = np.quantile(statistic(drawn), [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def holm(ps: Sequence[float]) -> list[float]:
    """Probabilities corrected so that the chance of any false verdict stays at the level (Holm 1979)."""
    order = np.argsort(ps)
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = largest
    return corrected
