"""The signature of an augmentation, several of them in a chain, and how one is found by its name.

Axes:  b images   c channels   y x pixels   h w pixels of the result
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Integer, UInt8
from torch import Tensor

from vitral.base.lookup import find
from vitral.data.augment_names import parse_augment

Images = UInt8[Tensor, "b c y x"]
Masks = Integer[Tensor, "b y x"] | Bool[Tensor, "b y x"]
Resized = UInt8[Tensor, "b c h w"]  # images and masks that may have got another size
ResizedMasks = Integer[Tensor, "b h w"] | Bool[Tensor, "b h w"]
Size = tuple[int, int]


@runtime_checkable
class Augment(Protocol):
    """A random change of a batch; `data/augmentation/NAME.py` defines one, with the name of its file.

    `images` are red, green and blue from 0 to 255, on the CPU, before they are normalised; they are left as they are,
    and changed copies are returned. Their memory is in the order of `b y x c`, in which PyTorch and Pillow resize bytes
    fastest. `masks` holds a class index for each pixel, or None. An augmentation that moves pixels moves those of the
    masks alike and takes the nearest pixel's class, since the mean of two class indices is a third class. Shapes and
    types stay.

    All random numbers come from `generator`: the same state gives the same result, and no other random numbers are used
    up. Each image of a batch is changed on its own: what happens to it does not depend on the pixels of the others.
    """

    def __call__(
        self, images: Images, masks: Masks | None, generator: torch.Generator
    ) -> tuple[Images, Masks | None]: ...


@runtime_checkable
class Resizing(Augment, Protocol):
    """An augmentation that can give images of another size than it gets, such as a crop."""

    def at_size(self, size: Size | None) -> Augment:
        """The same augmentation, whose images have this (height, width); None for that of the images it gets."""
        ...


@dataclass(frozen=True)
class Chain:
    """Augmentations that are applied one after the other."""

    parts: tuple[Augment, ...]

    def __call__(
        self, images: Images, masks: Masks | None, generator: torch.Generator
    ) -> tuple[Resized, ResizedMasks | None]:
        for part in self.parts:
            images, masks = part(images, masks, generator)
        return images, masks

    def at_size(self, size: Size | None) -> Augment:
        """The first part that can resize does: a crop then cuts out and resizes in one step, which blurs once."""
        for place, part in enumerate(self.parts):
            if isinstance(part, Resizing):
                return replace(self, parts=(*self.parts[:place], part.at_size(size), *self.parts[place + 1 :]))
        return self if size is None else replace(self, parts=(*self.parts, Resize(size)))


@dataclass(frozen=True)
class Resize:
    """Resizes whole images to `size`, (height, width); masks by the nearest pixel. Images of that size stay."""

    size: Size

    def __call__(
        self, images: Images, masks: Masks | None, generator: torch.Generator
    ) -> tuple[Resized, ResizedMasks | None]:
        if images.shape[-2:] == self.size:
            return images, masks
        resized = F.interpolate(images, size=self.size, mode="bilinear", antialias=True)
        return resized, None if masks is None else resize_masks(masks, self.size)


def resize_masks(masks: Masks, size: Size) -> ResizedMasks:
    """Each pixel takes the class of the pixel that its centre lies in."""
    return F.interpolate(masks[:, None].float(), size=size, mode="nearest-exact")[:, 0].to(masks.dtype)


def find_augment(name: str, size: Size | None = None) -> Augment:
    """The augmentation of a name, or of several that are joined by `+` and applied from left to right.

    With a `size`, its images have that (height, width), also if those that it gets are larger: a crop then cuts out of
    all their pixels, and without a crop they are resized. Raises `UnknownName` for a name that does not exist,
    `ConfigError` for `none` beside others.

    >>> len(find_augment("crop+horizontal_flip").parts)
    2
    """
    found = tuple(find("data.augmentation", part, "augmentation") for part in parse_augment(name))
    chain = found[0] if len(found) == 1 else Chain(found)
    if size is None:
        return chain
    return chain.at_size(size) if isinstance(chain, Resizing) else Chain((chain, Resize(size)))
