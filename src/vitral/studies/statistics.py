"""Intervals and corrections, written out: what a handful of seeds can and cannot show.

Axes:  n values
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

LEVEL = 0.95
# The standard deviation over seeds is taken to be at least this. Accuracies on two thousand test images cannot be told
# apart more finely, so seeds that happen to agree exactly must not give an interval of width zero.
LEAST_SPREAD = 1e-3


def t_tail(t: float, df: int) -> float:
    """The probability that Student's t with `df` degrees of freedom exceeds `t`.

    The finite series for whole numbers of degrees (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4). Raises `ValueError`
    if `df` is below 1.

    >>> round(t_tail(2.776, df=4), 3)
    0.025
    """
    if df < 1:
        raise ValueError(f"{df} degrees of freedom: an interval needs at least two values.")
    # The series is in the cosine of theta = arctan(t / √df). For an even df it starts at 1 and runs over even powers,
    # for an odd df it starts at cos(theta) and adds theta itself; each term follows from the one before it.
    angle = math.atan(abs(t) / math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = (1.0, 0.0) if df % 2 == 0 else (cosine, 0.0)
    for power in range(df % 2, df - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    # The series gives P(|T| < t); half of the rest lies above.
    between = sine * total if df % 2 == 0 else 2 / math.pi * (angle + sine * total)
    above = (1 - between) / 2
    return above if t >= 0 else 1 - above


def t_quantile(p: float, df: int) -> float:
    """The t that is exceeded with probability 1 - `p`, by bisection; `p` in (0.5, 1)."""
    low, high = 0.0, 1.0
    while t_tail(high, df) > 1 - p:
        high *= 2
    for _ in range(100):  # halves the bracket below the spacing of floats, whatever its width
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, df) > 1 - p else (low, middle)
    return (low + high) / 2


def t_interval(values: Sequence[float] | Float[np.ndarray, " n"], level: float = LEVEL) -> tuple[float, float]:
    """Student's interval of the mean. One value gives an infinite interval."""
    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return -math.inf, math.inf
    spread = max(float(found.std(ddof=1)), LEAST_SPREAD)
    half = t_quantile(0.5 + level / 2, len(found) - 1) * spread / math.sqrt(len(found))
    return float(found.mean()) - half, float(found.mean()) + half


def mean_interval(values: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """The mean and both ends of its interval."""
    return float(values.mean()), *t_interval(values)
