"""`mixup`: each image becomes a weighted mean of itself and another one; labels too (Zhang et al. 2018, §2)."""

import torch

from vitral.data.augment import Images
from vitral.data.mix import Targets, beta, mixed_targets


def mixup(images: Images, targets: Targets, generator: torch.Generator, alpha: float = 0.2) -> tuple[Images, Targets]:
    """An image keeps a share of itself from Beta(alpha, alpha): with the paper's 0.2 mostly nearly all or nothing."""
    partners, shares = torch.randperm(len(images), generator=generator), beta(alpha, len(images), generator)
    mixed = torch.empty_like(images)
    # One image at a time stays in the processor's cache; the whole batch as floats would not.
    for index, (partner, share) in enumerate(zip(partners.tolist(), shares.tolist())):
        mean = images[partner].float().lerp_(images[index].float(), share)
        mixed[index] = mean.round_()
    return mixed, mixed_targets(targets, partners, shares)
