"""Rows of attention as bytes: levels between 0 and the largest weight of each row.

    u = weight / largest weight of its row          q = √(12600 u)  up to q = 50,   126 u + 25  above; rounded

The upper levels are evenly spaced, so that no weight is off by more than half a step, 1/252 of the row's largest. Maps
are coloured by ratios, in which a weight far below the largest matters as much, so the levels become finer below 1/5 of
it, with the square root: evenly spaced ones would turn many of a sharp row's weights into 0.

Axes:  r rows   n keys
"""

import numpy as np
from jaxtyping import Float, UInt8

STEPS = 126  # of the evenly spaced part, in the whole range
CURVED = 50  # the level up to which they are squares
TOP = STEPS + CURVED // 2  # the level of a row's largest weight
BOUND = 1 / 250  # no weight is off by more than this share of its row's largest: half a step, and rounding

# What each level stands for, as a share of the row's largest weight. The page gets this table, not the formula.
LEVELS = np.where(
    np.arange(TOP + 1) <= CURVED,
    np.arange(TOP + 1) ** 2 / (2 * CURVED * STEPS),
    (np.arange(TOP + 1) - CURVED / 2) / STEPS,
).astype(np.float32)


def quantise(rows: Float[np.ndarray, "r n"]) -> tuple[Float[np.ndarray, " r"], UInt8[np.ndarray, "r n"], float]:
    """The largest weight of each row, the level of each weight, and the largest error as a share of a row's largest.

    Weights are not negative, and no row is longer than its largest weight allows: a row of zeros stays one.

    >>> largest, levels, error = quantise(np.array([[0.5, 0.25, 0.0]], np.float32))
    >>> largest, levels, error < BOUND
    (array([0.5], dtype=float32), array([[151,  88,   0]], dtype=uint8), True)
    """
    largest = rows.max(axis=-1).astype(np.float32)
    shares = rows / np.maximum(largest, np.finfo(np.float32).tiny)[:, None]
    curved = np.sqrt(np.maximum(shares, 0) * (2 * CURVED * STEPS))
    levels = np.round(np.where(curved <= CURVED, curved, shares * STEPS + CURVED / 2)).astype(np.uint8)
    error = float(np.abs(LEVELS[levels] - shares).max(initial=0.0))
    return largest, levels, error


def restore(largest: Float[np.ndarray, " r"], levels: UInt8[np.ndarray, "r n"]) -> Float[np.ndarray, "r n"]:
    """The weights that levels stand for, as the page restores them."""
    return LEVELS[levels] * largest[:, None]
