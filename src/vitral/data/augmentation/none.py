"""`none`: leaves the images unchanged."""

import torch

from vitral.data.augment import Images, Masks


def none(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """Return the images and masks themselves, and draw no random numbers."""
    return images, masks
