"""`photo`: random crops of 35 to 100 % of the area, mirrored half of the time (Szegedy et al. 2015, §6).

For photographs. Not for images whose class depends on left and right, such as letters.
"""

import torch

from vitral.data.augment import Images, Masks, apply_kornia


def photo(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """Crops with an aspect ratio of 3:4 to 4:3, resized to the images' size."""
    from kornia.augmentation import RandomHorizontalFlip, RandomResizedCrop

    height, width = images.shape[-2:]
    crop = RandomResizedCrop((height, width), scale=(0.35, 1.0), ratio=(3 / 4, 4 / 3))
    return apply_kornia([crop, RandomHorizontalFlip()], images, masks, generator)
