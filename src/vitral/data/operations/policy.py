"""The fourteen operations of AutoAugment's successors, for RandAugment and TrivialAugment.

Those of colours are Pillow's, which the papers used too; those that move pixels are one affine map. Where a pixel comes
from outside the image, it repeats the border instead of the papers' constant: the masks then need no extra class, and
no black corner says how far an image was turned.

Axes:  b images   c channels   y x pixels
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from vitral.data.augment import Images, Masks
from vitral.data.operations.warp import warp

LEVELS = 31  # strengths, from 0 to 1, as in torchvision


@dataclass(frozen=True)
class Colours:
    """Changes colours: `change(image, signed)` gets a strength from -1 to 1."""

    change: Callable[[Image.Image, float], Image.Image]


@dataclass(frozen=True)
class Moves:
    """Moves pixels: `entry(signed)` gives the entries of the 2 x 3 matrix by (row, column); shifts in sides."""

    entries: Callable[[float], Mapping[tuple[int, int], float]]


def operations_within(
    degrees: float, shear: float, shift: float, enhance: float, bits: int
) -> tuple[Colours | Moves, ...]:
    """All operations, with what each does at full strength.

    `degrees` of a turn, a `shear` in pixels per pixel, a `shift` in sides of the image, factors of 1 - `enhance` and
    1 + `enhance` for colour, contrast, brightness and sharpness, and the `bits` that posterising leaves of 8.
    """

    def enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Colours:
        return Colours(lambda image, signed: kind(image).enhance(1 + enhance * signed))

    def turned(signed: float) -> Mapping[tuple[int, int], float]:
        cos, sin = math.cos(math.radians(degrees * signed)), math.sin(math.radians(degrees * signed))
        return {(0, 0): cos, (0, 1): -sin, (1, 0): sin, (1, 1): cos}

    return (
        Colours(lambda image, signed: image),
        Colours(lambda image, signed: ImageOps.autocontrast(image)),
        Colours(lambda image, signed: ImageOps.equalize(image)),
        Colours(lambda image, signed: ImageOps.solarize(image, round(255 * (1 - abs(signed))) + 1)),
        Colours(lambda image, signed: ImageOps.posterize(image, 8 - round((8 - bits) * abs(signed)))),
        enhanced(ImageEnhance.Color),
        enhanced(ImageEnhance.Contrast),
        enhanced(ImageEnhance.Brightness),
        enhanced(ImageEnhance.Sharpness),
        Moves(turned),
        Moves(lambda signed: {(0, 1): shear * signed}),
        Moves(lambda signed: {(1, 0): shear * signed}),
        Moves(lambda signed: {(0, 2): shift * signed}),
        Moves(lambda signed: {(1, 2): shift * signed}),
    )


# The ranges of RandAugment (appendix A.1; 150 of 331 pixels), and of TrivialAugment's wide space (table 4). Its shift
# is 32 pixels in images of any size; here it is that share of 224 pixels, so that small images are not shifted away.
NARROW = operations_within(degrees=30.0, shear=0.3, shift=150 / 331, enhance=0.9, bits=4)
WIDE = operations_within(degrees=135.0, shear=0.99, shift=32 / 224, enhance=0.99, bits=2)


def apply(
    space: tuple[Colours | Moves, ...],
    operations: Int[Tensor, " b"],
    strengths: Float[Tensor, " b"],
    images: Images,
    masks: Masks | None,
    generator: torch.Generator,
) -> tuple[Images, Masks | None]:
    """Apply to each image the operation of its index, with its strength in 0 to 1, of a random sign."""
    signs = torch.randint(0, 2, strengths.shape, generator=generator) * 2 - 1
    changed, sides = images.clone(), (images.shape[-1], images.shape[-2])
    matrices = torch.eye(2, 3).repeat(len(images), 1, 1)
    for index, (operation, signed) in enumerate(zip(operations.tolist(), (signs * strengths).tolist())):
        chosen = space[operation]
        if isinstance(chosen, Colours):
            image = Image.fromarray(images[index].movedim(0, -1).contiguous().numpy())
            changed[index] = torch.from_numpy(np.array(chosen.change(image, signed))).movedim(-1, 0)
        else:
            for (row, column), value in chosen.entries(signed).items():
                matrices[index, row, column] = value * sides[row] if column == 2 else value
    return warp(changed, masks, matrices)
