"""`insertion`: how fast the answer comes when the highest patches are shown first (Petsiuk et al. 2018, "RISE", §4.1).

Axes:  b images   gy gx rows, columns of patches
"""

import numpy as np
import torch
from jaxtyping import Float
from kornia.filters import gaussian_blur2d

from vitral.explain.metric import Case, metric
from vitral.explain.metrics.deletion import area

BLUR = 1 / 8  # of the image's shorter side: the deviation of the blur that hides what is not yet shown


@metric(better="higher")
def insertion(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """The area under the class's probability as patches of a blurred image are made sharp, highest first; in 0 to 1.

    A constant map ranks nothing: not a number.
    """
    deviation = BLUR * min(case.images.shape[2:])
    side = 2 * min(int(3 * deviation), (min(case.images.shape[2:]) - 1) // 2) + 1
    blurred = gaussian_blur2d(case.images, (side, side), (deviation, deviation))
    return area(maps, case, lambda shown: torch.where(shown, case.images, blurred))
