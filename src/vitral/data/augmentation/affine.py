"""`affine`: rotates each image by up to 15 degrees, scales it by 0.85 to 1.15 and shifts it by up to 1/8 of its side.

For drawings and scans whose class does not depend on these, such as digits. Pixels from outside the image repeat its
border.
"""

import math

import torch

from vitral.data.augment import Images, Masks
from vitral.data.operations.crop import uniform
from vitral.data.operations.warp import rotation, warp

DEGREES, SCALE, SHIFT = 15.0, (0.85, 1.15), 1 / 8


def affine(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """Bilinear interpolation; each image by its own amounts."""
    count, (height, width) = len(images), images.shape[-2:]
    angle = uniform((count,), -math.radians(DEGREES), math.radians(DEGREES), generator)
    matrices = rotation(angle, uniform((count,), *SCALE, generator))
    moved = uniform((count, 2), -SHIFT, SHIFT, generator) * torch.tensor([width, height])
    # The shift is of what is shown, after it was turned and scaled: the place that is looked up moves the other way.
    matrices[:, :, 2] = -torch.einsum("bij,bj->bi", matrices[:, :, :2], moved)
    return warp(images, masks, matrices)
