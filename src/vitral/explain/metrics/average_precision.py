"""`average_precision`: how pure the patches are from the top down to each patch of the object (Everingham et al. 2010,
"The Pascal Visual Object Classes Challenge", §4.2, without interpolation).

Axes:  b images   gy gx rows, columns of patches   g patches
"""

import numpy as np
from jaxtyping import Float

from vitral.base.average_precision import average_precision as of_patches
from vitral.explain.metric import Case, flattened, metric, patches_on_object


@metric(better="higher", needs="masks")
def average_precision(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """1 if all patches of the object come first; a constant map gets the object's share of the patches.

    Patches of one value come together. Not a number where the mask is empty.
    """
    inside = patches_on_object(case.masks, maps.shape[1:])
    return np.array([of_patches(values, mine) for values, mine in zip(flattened(maps), inside)])
