"""One mask file: the class index of each pixel, and the palette that shows it.

A mask is a picture of numbers, not of colours. What would change the numbers without a word (JPEG's compression, a
palette that gives the same class another number, antialiased edges) is refused, with the file's name.

Axes:  y x pixels
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from vitral.base.boundaries import IGNORED
from vitral.base.errors import DataError, ImageError
from vitral.data.image import PillowWarningsOff

FORMATS = ("PNG", "TIFF", "BMP", "GIF")  # those that keep every number
SHOWN = 5  # colours or values in a message

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class MaskFile:
    """The values of a mask as they are stored, and the palette if the file has one: value -> colour."""

    path: Path
    values: Integer[np.ndarray, "y x"]
    palette: Mapping[int, Colour] | None = None


def read_mask(path: Path, colours: Mapping[Colour, int] | None = None) -> MaskFile:
    """The mask in a file. `colours` says which class each colour stands for, for masks that are stored in colour.

    Raises `ImageError` for a file that cannot be read, `DataError` for one that is not a picture of class indices.
    """
    try:
        with PillowWarningsOff(), Image.open(path) as image:
            if image.format == "JPEG" or image.format not in FORMATS:
                raise DataError(
                    f"{path} is a {image.format} file, which changes pixel values when it is saved, so class indices are "
                    "lost. Save masks as PNG."
                )
            image.load()
            return mask_of(path, image, colours)
    except (DataError, ImageError):
        raise
    except FileNotFoundError as error:
        raise ImageError(f"There is no mask {path}. Check the path.") from error
    except Exception as error:  # decoders raise errors of many types for damaged files
        raise ImageError(f"{path} is damaged or not an image. Replace it.") from error


def mask_of(path: Path, image: Image.Image, colours: Mapping[Colour, int] | None) -> MaskFile:
    """By the mode of the image: indices of a palette, grey values, or colours."""
    if image.mode == "P" and colours is None:
        flat = image.getpalette("RGB") or []
        palette = {index: (flat[3 * index], flat[3 * index + 1], flat[3 * index + 2]) for index in range(len(flat) // 3)}
        return MaskFile(path, np.array(image), palette)
    if image.mode == "1":
        return MaskFile(path, np.array(image).astype(np.uint8))
    if image.mode in ("L", "I", "I;16", "I;16B") and colours is None:
        return MaskFile(path, np.array(image).astype(np.int64))
    pixels = np.array(image.convert("RGB"))
    if colours is None:
        if (pixels == pixels[..., :1]).all():  # a grey picture that was saved in colour
            return MaskFile(path, pixels[..., 0].astype(np.int64))
        some = np.unique(pixels.reshape(-1, 3), axis=0)[:SHOWN].tolist()
        raise DataError(
            f"{path} is stored in colours, such as {', '.join(map(str, map(tuple, some)))}. Say which class each stands "
            "for in classes.csv, with the columns name, red, green, blue; or save masks as class indices."
        )
    return MaskFile(path, indices_of(path, pixels, colours))


def indices_of(path: Path, pixels: UInt8[np.ndarray, "y x 3"], colours: Mapping[Colour, int]) -> UInt8[np.ndarray, "y x"]:
    """The class of each pixel's colour. Raises `DataError` for a colour that stands for none."""
    code = pixels.astype(np.int64) @ np.array([65_536, 256, 1])
    known = np.array([red * 65_536 + green * 256 + blue for red, green, blue in colours])
    order = np.argsort(known)
    place = np.searchsorted(known[order], code).clip(0, len(known) - 1)
    found = known[order][place]
    if (wrong := found != code).any():
        some = np.unique(pixels[wrong], axis=0)[:SHOWN].tolist()
        raise DataError(
            f"{path} has {wrong.mean():.1%} of pixels in colours that classes.csv does not name: "
            f"{', '.join(map(str, map(tuple, some)))}. Add them, or save the mask without smoothed edges."
        )
    classes: np.ndarray = np.array(list(colours.values()), np.uint8)[order][place]
    return classes


def as_image(mask: UInt8[np.ndarray, "y x"], palette: UInt8[np.ndarray, "k 3"]) -> Image.Image:
    """A picture of class indices in which a viewer shows each class in its colour."""
    image = Image.fromarray(mask)
    image.putpalette(with_ignored(palette).tobytes())
    return image


def with_ignored(palette: UInt8[np.ndarray, "k 3"]) -> UInt8[np.ndarray, "256 3"]:
    """All 256 colours of a palette: those of classes, black for other values, and white for ignored pixels."""
    every = np.zeros((256, 3), np.uint8)
    every[: len(palette)] = palette
    every[IGNORED] = 255
    return every
