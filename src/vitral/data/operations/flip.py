"""Mirror images. Axes:  b images   c channels   y x pixels"""

import torch

from vitral.data.augment import Images, Masks


def flip_half(
    images: Images, masks: Masks | None, generator: torch.Generator, axis: int
) -> tuple[Images, Masks | None]:
    """Mirror each image with probability 1/2 along an axis: -1 exchanges left and right, -2 top and bottom."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    mirrored, mirrored_masks = images.clone(), None if masks is None else masks.clone()
    for index in chosen.nonzero().flatten().tolist():
        mirrored[index] = images[index].flip(axis)
        if mirrored_masks is not None and masks is not None:
            mirrored_masks[index] = masks[index].flip(axis)
    return mirrored, mirrored_masks
