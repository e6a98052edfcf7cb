"""How a map weighs the several objects of a drawn image.

Axes:  b images   k objects   gy gx rows, columns of patches
"""

import numpy as np
from einops import rearrange
from jaxtyping import Float

from vitral.data.dataset import Split
from vitral.data.synthetic.cued import shape_masks
from vitral.explain.metric import is_constant, patch_shares


def covered(split: Split, grid: tuple[int, int]) -> Float[np.ndarray, "b k gy gx"]:
    """The share of each patch that each object covers."""
    masks = shape_masks(split)
    shares = patch_shares(rearrange(masks, "b k y x -> (b k) y x"), grid)
    return rearrange(shares, "(b k) gy gx -> b k gy gx", b=len(masks))


def height_on_objects(maps: Float[np.ndarray, "b gy gx"], split: Split) -> Float[np.ndarray, "b k"]:
    """The map's mean over each object; not a number for constant maps."""
    shares = covered(split, maps.shape[1:])
    means = (maps[:, None] * shares).sum(axis=(2, 3)) / shares.sum(axis=(2, 3))
    return np.where(is_constant(maps)[:, None], np.nan, means)


def share_on_objects(maps: Float[np.ndarray, "b gy gx"], split: Split) -> Float[np.ndarray, "b k"]:
    """What part of the map's positive values on objects lies on each; not a number for constant maps or none there."""
    mass = (maps.clip(min=0)[:, None] * covered(split, maps.shape[1:])).sum(axis=(2, 3))
    total = mass.sum(axis=1, keepdims=True)
    return np.where((total > 0) & ~is_constant(maps)[:, None], mass / np.where(total > 0, total, 1), np.nan)
