"""`erasing`: covers a rectangle of noise in a quarter of the images, 2 to 33 % of their area (Zhong et al. 2020).

For images whose class shows in more than one place: the model cannot rely on one of them. Section 3 of the paper, with
each pixel a random colour, which did best there.

Axes:  b images   c channels   y x pixels
"""

import torch

from vitral.data.augment import Images, Masks
from vitral.data.operations.crop import draw_windows

PROBABILITY, AREA, RATIO = 0.25, (0.02, 1 / 3), (0.3, 1 / 0.3)


def erasing(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """Masks stay: what is covered is still there, and has to be inferred from around it."""
    chosen = torch.rand(len(images), generator=generator) < PROBABILITY
    windows = draw_windows(len(images), (images.shape[-2], images.shape[-1]), AREA, RATIO, generator)
    covered = images.clone()
    for index in chosen.nonzero().flatten().tolist():
        top, left, high, wide = windows[index].tolist()
        noise = torch.randint(0, 256, (images.shape[1], high, wide), generator=generator, dtype=torch.uint8)
        covered[index, :, top : top + high, left : left + wide] = noise
    return covered, masks
