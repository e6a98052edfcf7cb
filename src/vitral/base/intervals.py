"""95 % confidence intervals of figures measured on a sample of images, and figures as JSON holds them."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 300  # bootstrap samples: the ends of an interval then vary by a few percent of its length


def interval(proportion: float, n: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion (Wilson 1927)."""
    z = 1.959964
    centre = (proportion + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def interval_of_mean(proportions: Float[np.ndarray, " k"], counts: Int[np.ndarray, " k"]) -> tuple[float, float]:
    """The 95 % confidence interval of the mean of `k` independent proportions, each of so many images.

    From the intervals of the proportions (Zou, Huang & Zhang 2009, "A note on confidence interval estimation for a
    linear function of binomial proportions"). A bootstrap would give none at all to a class whose images are all right,
    or all wrong, and would leave out a class of few images in some samples.

    >>> low, high = interval_of_mean(np.array([1.0, 0.0]), np.array([30, 2]))
    >>> round(low, 2), round(high, 2)
    (0.44, 0.83)
    """
    ends = np.array([interval(float(one), int(count)) for one, count in zip(proportions, counts)])
    down, up = np.linalg.norm(ends - proportions[:, None], axis=0) / len(counts)
    mean = float(proportions.mean())
    return mean - float(down), mean + float(up)


def bootstrap(figure: Callable[[Int[np.ndarray, " n"]], float], n: int) -> tuple[float, float]:
    """The 95 % percentile interval of a figure over resampled images (Efron 1979), seeded; NaN for a single image.

    `figure` takes the indices of the images; samples on which it is not a number are left out.
    """
    return percentiles(np.array([figure(chosen) for chosen in resamples(n)]), n)


def resamples(n: int) -> Iterator[Int[np.ndarray, " n"]]:
    """The images of each bootstrap sample, the same in every call."""
    rng = np.random.default_rng(0)
    return (rng.integers(n, size=n) for _ in range(RESAMPLES))


def bootstrap_weights(n: int) -> Int[np.ndarray, "r n"]:
    """How often each bootstrap sample has each image: a figure of sums over images is a product with these."""
    return np.stack([np.bincount(chosen, minlength=n) for chosen in resamples(n)])


def percentiles(found: Float[np.ndarray, " r"], n: int) -> tuple[float, float]:
    """The ends of the 95 % interval of a figure of `n` images in bootstrap samples; NaN for a single image."""
    found = found[np.isfinite(found)]
    if n < 2 or not len(found):
        return float("nan"), float("nan")
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def finite_or_none(value: float) -> float | None:
    """JSON has neither NaN nor infinity."""
    return float(value) if np.isfinite(value) else None
