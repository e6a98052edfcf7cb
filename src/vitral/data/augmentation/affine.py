"""`affine`: rotates each image by up to 15 degrees, scales it by 0.85 to 1.15 and shifts it by up to 1/8 of its side.

For drawings and scans whose class does not depend on these, such as digits. Pixels from outside the image repeat its
border.
"""

import torch

from vitral.data.augment import Images, Masks, apply_kornia


def affine(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """Bilinear interpolation; each image by its own amounts."""
    from kornia.augmentation import RandomAffine

    change = RandomAffine(degrees=15, translate=(1 / 8, 1 / 8), scale=(0.85, 1.15), padding_mode="border", p=1.0)
    return apply_kornia([change], images, masks, generator)
