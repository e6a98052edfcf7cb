"""`average_precision`: how pure the patches are from the top down to each patch of the object (Everingham et al. 2010,
"The Pascal Visual Object Classes Challenge", §4.2, without interpolation).

Axes:  b images   gy gx rows, columns of patches   g patches
"""

import numpy as np
from jaxtyping import Bool, Float

from vitral.explain.metric import Case, flattened, metric, patches_on_object


@metric(better="higher", needs="masks")
def average_precision(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """1 if all patches of the object come first; a constant map gets the object's share of the patches.

    Patches of one value come together. Not a number where the mask is empty.
    """
    inside = patches_on_object(case.masks, maps.shape[1:])
    return np.array([of_one(values, mine) for values, mine in zip(flattened(maps), inside)])


def of_one(values: Float[np.ndarray, " g"], inside: Bool[np.ndarray, " g"]) -> float:
    if not inside.any():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    found = inside[order].cumsum()
    last = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # of each group of equal values
    gained = np.diff(found[last], prepend=0) / inside.sum()
    return float((gained * found[last] / (last + 1)).sum())
