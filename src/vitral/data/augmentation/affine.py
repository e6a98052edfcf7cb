"""`affine`: each image is turned by up to 15 degrees, scaled by 0.85 to 1.15 and moved by up to an eighth of its side.

For drawings and scans whose class survives it, such as digits; the border is repeated.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def affine(images: Float[Tensor, "b c y x"], seed: int) -> Float[Tensor, "b c y x"]:
    """Bilinear, each image by its own amounts."""
    from kornia.augmentation import RandomAffine

    change = RandomAffine(degrees=15, translate=(1 / 8, 1 / 8), scale=(0.85, 1.15), padding_mode="border", p=1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return change(images)
