"""Images whose label is likely wrong: confident learning (Northcutt, Jiang & Chuang 2021, §3.1 and §3.2).

The model must not have been trained on the images: what it has learned by heart it never doubts.

Axes:  n images   k classes
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

LOOK_AT = "The model is surer of another class than of the label. Either the label is wrong, or the model is."
FEWEST = 5  # images of a class, below which how sure the model is of that class is not known


@dataclass(frozen=True)
class LikelyMislabel:
    """An image by its index, its `label`, the class that the model is sure of, and the probabilities of both."""

    index: int
    label: int
    suggested: int
    own: float
    probability: float


def likely_mislabels(values: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> list[LikelyMislabel]:
    """The images outside the diagonal of the confident joint (equation 1), the surest first.

    An image counts as of a class if that class's probability reaches the mean one of the images labelled with it; of
    several such classes the likeliest counts. It is listed only if the model is surer of that class than of the label:
    of an image of a class that the model always knows it may be less sure than usual, and surest all the same.

    >>> values = np.array([[0.9, 0.1]] * 5 + [[0.2, 0.8]] * 6)
    >>> [one.index for one in likely_mislabels(values, np.array([0] * 5 + [1] * 5 + [0]))]
    [10]
    """
    n, k = values.shape
    counts = np.bincount(labels, minlength=k)
    own = np.bincount(labels, values[np.arange(n), labels], k)
    needed = np.where(counts >= FEWEST, own / np.maximum(counts, 1), np.inf)
    reached = np.where(values >= needed, values, -1.0)
    suggested = reached.argmax(axis=1)
    found = np.flatnonzero(reached.max(axis=1) > values[np.arange(n), labels])
    listed = [
        LikelyMislabel(
            int(i), int(labels[i]), int(suggested[i]), float(values[i, labels[i]]), float(values[i, suggested[i]])
        )
        for i in found
    ]
    return sorted(listed, key=lambda one: (one.own - one.probability, one.index))
