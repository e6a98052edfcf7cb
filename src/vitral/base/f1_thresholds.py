"""A threshold per class that maximises its F1 (Lipton, Elkan & Narayanaswamy 2014, "Optimal Thresholding of Classifiers
to Maximize F1 Measure").

Axes:  n images   k classes
"""

import numpy as np
from jaxtyping import Bool, Float

FEWEST_POSITIVE = 10  # with fewer images of a class the best threshold is that of these images (§5 of the paper)


def f1_thresholds(
    values: Float[np.ndarray, "n k"], labels: Bool[np.ndarray, "n k"], otherwise: float
) -> tuple[tuple[float, ...], list[int]]:
    """The threshold of each class, and which classes keep `otherwise`: too few images have them, or too few have not.

    >>> f1_thresholds(np.linspace(0, 1, 40)[:, None], np.arange(40)[:, None] >= 30, 0.5)[0][0].__round__(2)
    0.76
    """
    thresholds, kept = [], []
    for index, (chances, has) in enumerate(zip(values.T.astype(np.float64), labels.T)):
        few = min(int(has.sum()), int((~has).sum())) < FEWEST_POSITIVE
        kept += [index] if few else []
        thresholds.append(otherwise if few else best_threshold(chances, has))
    return tuple(thresholds), kept


def best_threshold(chances: Float[np.ndarray, " n"], has: Bool[np.ndarray, " n"]) -> float:
    """The threshold with the highest F1, halfway between two images; of several the highest."""
    order = np.argsort(-chances, kind="stable")
    chances, found = chances[order], has[order].cumsum()
    last = np.append(np.flatnonzero(np.diff(chances)), len(chances) - 1)  # equal values are on one side
    f1 = 2 * found[last] / (last + 1 + has.sum())
    best = int(f1.argmax())
    below = chances[last[best] + 1] if best + 1 < len(last) else 0.0
    return float((chances[last[best]] + below) / 2)
