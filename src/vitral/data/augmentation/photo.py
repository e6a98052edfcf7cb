"""`photo`: random crops of 35 to 100 % of the area and mirror images, as for photographs (Szegedy et al. 2015, §6).

Not for images whose class depends on left and right.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def photo(images: Float[Tensor, "b c y x"], seed: int) -> Float[Tensor, "b c y x"]:
    from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip, RandomResizedCrop

    height, width = images.shape[-2:]
    change = AugmentationSequential(
        RandomResizedCrop((height, width), scale=(0.35, 1.0), ratio=(3 / 4, 4 / 3)),
        RandomHorizontalFlip(),
        data_keys=["input"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return change(images)
