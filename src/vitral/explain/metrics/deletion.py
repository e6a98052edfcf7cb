"""`deletion`: how fast the answer goes when the highest patches are covered first (Petsiuk et al. 2018, "RISE", §4.1).

Axes:  b images   g patches   gy gx rows, columns of patches   c channels   y x pixels
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from vitral.explain.metric import Case, constant, flat, measure, probabilities_of

STEPS = 36  # at most; larger grids are covered several patches a step
FILL = 0.0  # as the model takes it: the mean colour


@measure(better="lower")
def deletion(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, " b"]:
    """The area under the class's probability as patches are set to the mean colour, highest first; in 0 to 1.

    Whole patches are ranked, equal ones in an order drawn from a fixed seed. A constant map ranks nothing: not a
    number.
    """
    empty = torch.full_like(case.images, FILL)
    return area(maps, case, lambda covered: torch.where(covered, empty, case.images))


def area(
    maps: Float[np.ndarray, "b gy gx"], case: Case, shown: Callable[[Tensor], Tensor], most: int = STEPS
) -> Float[np.ndarray, " b"]:
    """The area under the curve of probabilities over the share of patches, from none to all, by the trapezoid rule."""
    shares, curve = [], []
    for share, some in growing(maps, case.images, most):
        shares.append(share)
        curve.append(probabilities_of(case.model, shown(some), case.classes))
    found = np.trapezoid(np.stack(curve), shares, axis=0)
    return np.where(constant(maps), np.nan, found)


def growing(
    maps: Float[np.ndarray, "b gy gx"], images: Tensor, most: int = STEPS
) -> Iterator[tuple[float, Bool[Tensor, "b 1 y x"]]]:
    """Masks of the highest patches, of none, of a few more each step, of all, each with their share of the patches.

    A pixel belongs to the patch nearest to it, where the image does not divide into the map's grid.
    """
    values = flat(maps)
    order = np.lexsort((np.random.default_rng(0).random(values.shape), -values), axis=1)
    place = order.argsort(axis=1)  # 0 is the highest
    count = values.shape[1]
    for step in range(min(most, count) + 1):
        some = round(count * step / min(most, count))
        covered = torch.from_numpy((place < some).astype(np.float32)).to(images.device)
        covered = rearrange(covered, "b (gy gx) -> b 1 gy gx", gy=maps.shape[1])
        yield some / count, F.interpolate(covered, size=tuple(images.shape[2:]), mode="nearest-exact") > 0.5
