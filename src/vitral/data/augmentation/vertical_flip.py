"""`vertical_flip`: mirrors each image half of the time, top to bottom.

For images without an up, such as those from a microscope or from the air; use it with `horizontal_flip`.
"""

import torch

from vitral.data.augment import Images, Masks
from vitral.data.operations.flip import flip_half


def vertical_flip(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """Exact: no pixel changes its value."""
    return flip_half(images, masks, generator, axis=-2)
