"""`auroc`: the chance that a patch of the object is higher than one beside it (Hanley & McNeil 1982).

Axes:  b images   gy gx rows, columns of patches
"""

import numpy as np
from jaxtyping import Float

from vitral.explain.metric import Case, metric, patches_on_object, ranks


@metric(better="higher", needs="masks")
def auroc(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """0.5 is chance, ties counting half, so that a constant map has it. Not a number without both kinds of patches."""
    inside = patches_on_object(case.masks, maps.shape[1:])
    ours, rest = inside.sum(axis=1), (~inside).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = ((ranks(maps) * inside).sum(axis=1) - ours * (ours + 1) / 2) / (ours * rest)
    return np.where((ours == 0) | (rest == 0), np.nan, found)
