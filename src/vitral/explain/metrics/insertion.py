"""`insertion`: how fast the answer comes when the highest patches are shown first (Petsiuk et al. 2018, "RISE", §4.1).

Axes:  b images   c channels   y x pixels   gy gx rows, columns of patches
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

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
    blurred = gaussian_blur(case.images, side, deviation)
    return area(maps, case, lambda shown: torch.where(shown, case.images, blurred))


def gaussian_blur(images: Float[Tensor, "b c y x"], side: int, deviation: float) -> Float[Tensor, "b c y x"]:
    """Weigh `side` x `side` pixels (odd) by a Gaussian of this deviation in pixels; the border is mirrored."""
    offsets = torch.arange(side, dtype=images.dtype, device=images.device) - side // 2
    weights = torch.softmax(-((offsets / deviation) ** 2) / 2, dim=0).repeat(images.shape[1], 1)
    padded, channels = F.pad(images, (side // 2,) * 4, mode="reflect"), images.shape[1]
    across = F.conv2d(padded, weights[:, None, None, :], groups=channels)
    return F.conv2d(across, weights[:, None, :, None], groups=channels)
