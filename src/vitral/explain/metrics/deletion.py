"""`deletion`: how fast the answer goes when the highest patches are covered first (Petsiuk et al. 2018, "RISE", §4.1).

Axes:  b images   g patches   gy gx rows, columns of patches   c channels   y x pixels
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitral.explain.covering import FILL, MOST_STEPS, covered_pixels, patches_covered
from vitral.explain.metric import Case, class_probabilities, flattened, is_constant, metric


@metric(better="lower")
def deletion(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """The area under the class's probability as patches are set to the mean colour, highest first; in 0 to 1.

    Whole patches are ranked, equal ones in an order drawn from a fixed seed. A constant map ranks nothing: not a
    number.
    """
    empty = torch.full_like(case.images, FILL)
    return area(maps, case, lambda covered: torch.where(covered, empty, case.images))


def area(
    maps: Float[np.ndarray, "b gy gx"], case: Case, change: Callable[[Tensor], Tensor], most_steps: int = MOST_STEPS
) -> Float[np.ndarray, " b"]:
    """The area under the curve of probabilities over the share of patches changed, from none to all, by trapezoids."""
    values = flattened(maps)
    order = np.lexsort((np.random.default_rng(0).random(values.shape), -values), axis=1)
    place = order.argsort(axis=1)  # 0 is the highest
    counts = patches_covered(values.shape[1], min(most_steps, values.shape[1]))
    curve = []
    for count in counts:
        covered = covered_pixels(place < count, maps.shape[1:], case.images.shape[2:], case.images.device)
        curve.append(class_probabilities(case.model, change(covered), case.classes))
    found = np.trapezoid(np.stack(curve), counts / values.shape[1], axis=0)
    return np.where(is_constant(maps), np.nan, found)
