"""`iou`: the map as a segmentation, by the protocol of Chefer et al. 2021, "Transformer Interpretability Beyond
Attention Visualization", §4: each map is stretched to its own range and cut at its mean; intersections and unions are
added up over the images, for background and for object, and the two ratios are averaged.

Axes:  b images   gy gx rows, columns of patches   y x pixels
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from vitral.explain.metric import Case, is_constant, metric


def of_all(sums: Float[np.ndarray, "b 4"]) -> float:
    """Mean over background and object of summed intersection over summed union."""
    one, two, over_one, over_two = np.nansum(sums, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float((one / over_one + two / over_two) / 2)


@metric(better="higher", needs="masks", pool=of_all)
def iou(maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, "b 4"]:
    """For each image the pixels in the intersection, and in the union, of background and of object.

    The map is brought to the image's size bilinearly, as published. A constant map has no such cut: not a number.
    """
    size = case.masks.shape[1:]
    large = F.interpolate(torch.from_numpy(maps).double()[:, None], size=size, mode="bilinear")[:, 0].numpy()
    front = large > large.mean(axis=(1, 2), keepdims=True)
    pairs = [(~front, ~case.masks), (front, case.masks)]
    both = [(ours & right).sum(axis=(1, 2)) for ours, right in pairs]
    either = [(ours | right).sum(axis=(1, 2)) for ours, right in pairs]
    counted = np.stack([*both, *either], axis=1).astype(float)
    counted[is_constant(maps)] = np.nan
    return counted
