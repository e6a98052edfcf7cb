"""`mass_ratio`: the share of the map on the object, over the object's share of the image (Arras et al. 2022,
"CLEVR-XAI", relevance mass accuracy, here as a multiple of what an even map gets).

Axes:  b images   gy gx rows, columns of patches
"""

import numpy as np
from jaxtyping import Float

from vitral.explain.metric import Case, flattened, metric, patch_shares


@metric(better="higher", needs="masks")
def mass_ratio(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """1 is an even map. What is negative counts for nothing; without anything positive, or a mask, not a number."""
    positive = flattened(maps).clip(min=0)
    share = flattened(patch_shares(case.masks, maps.shape[1:]))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (positive * share).sum(axis=1) / positive.sum(axis=1) / share.mean(axis=1)
