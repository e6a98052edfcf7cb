"""`agreement`: do the other methods show the same? (Krishna et al. 2022, "The Disagreement Problem", §3, by ranks.)

Axes:  b images   gy gx rows, columns of patches
"""

import numpy as np
from jaxtyping import Float

from vitral.explain.metric import Case, mean, metric, rank_correlation


@metric(better="neither")
def agreement(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """The mean rank correlation with the other methods' maps of the same image; controls are not among them.

    Neither more nor less is better: methods may agree and be wrong. Not a number if there is no other.
    """
    found = [rank_correlation(maps, other) for other in case.others.values() if other.shape == maps.shape]
    return np.array([mean(np.array(each)) for each in zip(*found)]) if found else np.full(len(maps), np.nan)
