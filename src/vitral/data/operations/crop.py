"""The random resized crop: a window of random area and aspect ratio, resized (Szegedy et al. 2015, §6).

Each image is cut and resized on its own by PyTorch's resize of bytes. It weighs all pixels of a window that is larger
than the result (`antialias`), so that fine patterns do not turn into coarse ones.

Axes:  b images   c channels   y x pixels   h w pixels of the result
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from vitral.data.augment import Images, Masks, Resized, ResizedMasks, Size, resize_masks

TRIES = 10  # windows that are drawn until one lies within the image; after them the middle is cut out


@dataclass(frozen=True)
class RandomResizedCrop:
    """Cut out a window of a random share of the area, in `scale`, and a random width / height, in `ratio`.

    The logarithm of the ratio is uniform, so that a wide window is as likely as a high one. The result has `size`,
    (height, width), by default that of the images: larger images may be given, and their pixels are used.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    size: Size | None = None

    def __call__(
        self, images: Images, masks: Masks | None, generator: torch.Generator
    ) -> tuple[Resized, ResizedMasks | None]:
        height, width = images.shape[-2:]
        size = self.size or (height, width)
        windows = draw_windows(len(images), (height, width), self.scale, self.ratio, generator)
        cut = images.new_empty(len(images), *size, images.shape[1]).movedim(-1, 1)
        moved = None if masks is None else masks.new_empty(len(masks), *size)
        for index, (top, left, high, wide) in enumerate(windows.tolist()):
            rows, columns = slice(top, top + high), slice(left, left + wide)
            window = images[index : index + 1, :, rows, columns]
            cut[index] = F.interpolate(window, size=size, mode="bilinear", antialias=True)[0]
            if moved is not None and masks is not None:
                moved[index] = resize_masks(masks[index : index + 1, rows, columns], size)[0]
        return cut, moved

    def at_size(self, size: Size | None) -> "RandomResizedCrop":
        return replace(self, size=size)


def draw_windows(
    count: int, shape: Size, scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> Int[Tensor, "b 4"]:
    """For each image a window's top, left, height and width in whole pixels, within images of this (height, width).

    Of `TRIES` windows the first that lies within the image is taken, which is how torchvision and Kornia draw them.
    """
    height, width = shape
    area = uniform((count, TRIES), *scale, generator) * (height * width)
    aspect = uniform((count, TRIES), math.log(ratio[0]), math.log(ratio[1]), generator).exp()
    wide, high = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (wide >= 1) & (wide <= width) & (high >= 1) & (high <= height)
    first = fits.long().argmax(dim=1, keepdim=True)
    high, wide = high.gather(1, first)[:, 0], wide.gather(1, first)[:, 0]
    # The largest window in the middle whose ratio is allowed.
    middle_wide = min(width, max(1, round(height * ratio[1])))
    middle_high = min(height, max(1, round(width / ratio[0])))
    found = fits.any(dim=1)
    high, wide = high.where(found, torch.tensor(middle_high)), wide.where(found, torch.tensor(middle_wide))
    rooms, place = (height - high, width - wide), torch.rand(2, count, generator=generator)
    top, left = (((room + 1) * at).long().where(found, room // 2) for room, at in zip(rooms, place))
    return torch.stack([top, left, high, wide], dim=1)


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform random numbers from `low` to `high`."""
    return low + (high - low) * torch.rand(shape, generator=generator)
