"""`rand_augment`: two random operations per image, of 9/30 of their full strength (Cubuk et al. 2020, §3).

For photographs. The operations are those of `trivial_augment` with narrower ranges, in which 9 of 30 is weak: with a
strength that never changes, no image becomes unrecognisable.
"""

import torch

from vitral.data.augment import Images, Masks
from vitral.data.operations.policy import LEVELS, NARROW, apply

COUNT, LEVEL = 2, 9


def rand_augment(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """Each of the two is drawn from all operations, so that an image may get the same one twice."""
    strength = torch.full((len(images),), LEVEL / (LEVELS - 1))
    for _ in range(COUNT):
        operations = torch.randint(0, len(NARROW), (len(images),), generator=generator)
        images, masks = apply(NARROW, operations, strength, images, masks, generator)
    return images, masks
