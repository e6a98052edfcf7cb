"""Cover the patches of an image one after another, for `deletion`, `insertion` and the test against random orders.

Axes:  b images   s steps   g patches   y x pixels
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor

MOST_STEPS = 36  # larger grids are covered several patches per step
FILL = 0.0  # as the model takes it: the mean colour


def patches_covered(num_patches: int, steps: int) -> Int[np.ndarray, " s1"]:
    """How many patches are covered at each step, from none to all."""
    return np.array([round(num_patches * step / steps) for step in range(steps + 1)])


def patches_covered_in_doublings(num_patches: int, steps: int) -> Int[np.ndarray, " s1"]:
    """How many patches are covered at each step, from none to all, each time about twice as many as before.

    A few patches may be all that an answer hangs on, so the first steps are small.
    """
    return np.unique([0, *np.round(np.geomspace(1, num_patches, steps)).astype(int)])


def patches_covered_in_doublings_and_halvings(num_patches: int, steps: int) -> Int[np.ndarray, " s1"]:
    """How many patches are covered at each step, from none to all: doublings up to half, then the same backwards.

    An answer may hang on a few patches: the first steps show a map that covers these first, the last steps one that
    covers them last.
    """
    covered = patches_covered_in_doublings(max(1, num_patches // 2), steps)
    return np.unique([*covered, *(num_patches - covered)])


def covered_pixels(
    covered: Bool[np.ndarray, "n g"], grid: tuple[int, int], size: Sequence[int], device: torch.device
) -> Bool[Tensor, "n 1 y x"]:
    """Covered patches as pixels. A pixel belongs to the patch nearest to it, if the image does not divide."""
    patches = torch.from_numpy(covered.astype(np.float32)).to(device)
    patches = rearrange(patches, "n (gy gx) -> n 1 gy gx", gy=grid[0])
    return F.interpolate(patches, size=tuple(size), mode="nearest-exact") > 0.5
