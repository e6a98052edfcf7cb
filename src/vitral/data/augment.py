"""The signature of an augmentation, and how Kornia's operations get it.

Axes:  b images   c channels   y x pixels
"""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

if TYPE_CHECKING:
    from kornia.augmentation import AugmentationBase2D

Images = Float[Tensor, "b c y x"]
Masks = Integer[Tensor, "b y x"] | Bool[Tensor, "b y x"]


@runtime_checkable
class Augment(Protocol):
    """A random change of a batch; `data/augmentation/NAME.py` defines one, with the name of its file.

    `images` are normalised, on any device; they are left as they are, and changed copies are returned. `masks` holds
    a class index for each pixel, or None. An augmentation that moves pixels moves those of the masks alike and takes
    the nearest pixel's class, since the mean of two class indices is a third class. Shapes and types stay.

    All random numbers come from `generator`, on the CPU: the same state gives the same result, and no other random
    numbers are used up. Each image of a batch is changed on its own.
    """

    def __call__(
        self, images: Images, masks: Masks | None, generator: torch.Generator
    ) -> tuple[Images, Masks | None]: ...


def apply_kornia(
    operations: list["AugmentationBase2D"], images: Images, masks: Masks | None, generator: torch.Generator
) -> tuple[Images, Masks | None]:
    """Apply Kornia operations one after the other, to the masks too where the operation moves pixels."""
    from kornia.augmentation import AugmentationSequential

    # Kornia draws from PyTorch's global generator and takes no other: lend it the state of ours, and take it back.
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        if masks is None:
            changed = AugmentationSequential(*operations, data_keys=["input"])(images)
        else:
            moving = AugmentationSequential(*operations, data_keys=["input", "mask"])  # masks by the nearest pixel
            changed, floats = moving(images, masks[:, None].to(images))
            masks = floats[:, 0].to(masks.dtype)
        generator.set_state(torch.get_rng_state())
    return changed, masks
