"""`horizontal_flip`: mirrors each image half of the time, left to right.

Not for images whose class depends on left and right, such as letters.
"""

import torch

from vitral.data.augment import Images, Masks
from vitral.data.operations.flip import flip_half


def horizontal_flip(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """Exact: no pixel changes its value."""
    return flip_half(images, masks, generator, axis=-1)
