"""How much each class counts in a balanced loss. Needs no torch."""

import numpy as np
from jaxtyping import Float, Int

MOST = 10.0  # of a weight: a class of a handful of images or pixels would make steps of its own


def balanced_weights(counts: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """The median frequency of the classes over that of each, at most `MOST`; 1 for a class that does not occur.

    Eigen & Fergus 2015, "Predicting Depth, Surface Normals and Semantic Labels", §6.3.2.

    >>> balanced_weights(np.array([300, 12, 100, 0])).round(2).tolist()
    [0.33, 8.33, 1.0, 1.0]
    """
    present = counts > 0
    weights = np.ones(len(counts))
    weights[present] = np.minimum(np.median(counts[present]) / counts[present], MOST)
    return weights
