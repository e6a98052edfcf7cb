"""`trivial_augment`: one random operation per image, of a random strength (Müller & Hutter 2021, §3).

For photographs. There is nothing to set: the strength goes from nothing to very much. The operations are those of the
paper's wide space: colours, sharpness, solarise, posterise, equalise, rotate, shear and shift.
"""

import torch

from vitral.data.augment import Images, Masks
from vitral.data.operations.policy import LEVELS, WIDE, apply


def trivial_augment(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """Every operation is as likely as every other, and every strength too."""
    operations = torch.randint(0, len(WIDE), (len(images),), generator=generator)
    levels = torch.randint(0, LEVELS, (len(images),), generator=generator)
    return apply(WIDE, operations, levels / (LEVELS - 1), images, masks, generator)
