"""`cutmix`: a rectangle of each image is that of another one, and labels follow the areas (Yun et al. 2019, §3.1)."""

import torch

from vitral.data.augment import Images
from vitral.data.mix import Targets, beta, mixed_targets


def cutmix(images: Images, targets: Targets, generator: torch.Generator, alpha: float = 1.0) -> tuple[Images, Targets]:
    """The rectangle has the image's aspect ratio, and of its area 1 minus a random share from Beta(alpha, alpha).

    Its middle is anywhere in the image, and what lies outside is cut off; the labels' shares are those of the pixels
    that are left.
    """
    height, width = images.shape[-2:]
    partners, kept = torch.randperm(len(images), generator=generator), beta(alpha, len(images), generator)
    middles = torch.rand(len(images), 2, generator=generator) * torch.tensor([height, width])
    half = (1 - kept).sqrt()[:, None] * torch.tensor([height, width]) / 2
    ends = torch.stack([middles - half, middles + half], dim=1).round().long()
    ends = ends.clamp(min=0).minimum(torch.tensor([height, width]))
    mixed = images.clone()
    for index, (partner, ((top, left), (bottom, right))) in enumerate(zip(partners.tolist(), ends.tolist())):
        mixed[index, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    area = (ends[:, 1] - ends[:, 0]).prod(dim=1)
    return mixed, mixed_targets(targets, partners, 1 - area / (height * width))
