"""Which patches are outliers: their norm is far above the others' (Darcet et al. 2024, "Vision Transformers Need
Registers", §2.1).

Outliers raise the mean and standard deviation themselves: among 16 values none can be 4 deviations above the mean. So
two figures take their place that up to half of the patches cannot move: the median, and 1.4826 times the median
distance from it, which is the standard deviation of a normal distribution (Rousseeuw & Croux 1993, "Alternatives to
the Median Absolute Deviation", §1).

Axes:  b images   n tokens   d width
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

DEVIATIONS = 6.0  # robust ones above the median
TIMES = 2.0  # the median at least: where norms are almost alike, any rounding is many deviations
NORMAL = 1.4826  # standard deviations of a normal distribution in its median distance from the median


def is_outlier(tokens: Float[Tensor, "b n d"]) -> Bool[Tensor, "b n"]:
    """Patches whose norm is more than 6 robust deviations above the median of their image, and more than twice it.

    Of patches drawn from a normal distribution, fewer than 1 in 5,000 is called an outlier, on grids of 16 to 196.
    Outliers are found as long as they are fewer than half.
    """
    norms = tokens.float().norm(dim=-1)
    median = norms.quantile(0.5, dim=1, keepdim=True)
    deviation = NORMAL * (norms - median).abs().quantile(0.5, dim=1, keepdim=True)
    return norms > torch.maximum(median + DEVIATIONS * deviation, TIMES * median)
