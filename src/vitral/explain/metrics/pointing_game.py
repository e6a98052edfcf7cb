"""`pointing_game`: does the map's highest patch lie on the object? (Zhang et al. 2018, "Top-Down Neural Attention")

Axes:  b images   gy gx rows, columns of patches
"""

import numpy as np
from jaxtyping import Float

from vitral.explain.metric import Case, flattened, is_constant, metric, patches_on_object


@metric(better="higher", needs="masks")
def pointing_game(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """1 for a hit, 0 for a miss; several highest patches give the share of them that hit.

    A patch is on the object if the object covers a quarter of it. A constant map points nowhere, which is a miss; an
    empty mask can not be hit: not a number.
    """
    inside = patches_on_object(case.masks, maps.shape[1:])
    values = flattened(maps)
    peaks = values == values.max(axis=1, keepdims=True)
    hits = (peaks & inside).sum(axis=1) / peaks.sum(axis=1)
    return np.where(~inside.any(axis=1), np.nan, np.where(is_constant(maps), 0, hits))
