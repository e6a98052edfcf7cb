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

from vitral.base.errors import DataError, ImageError
from vitral.base.mask_values import IGNORED
from vitral.data.image import PillowWarningsOff

FORMATS = ("PNG", "TIFF", "BMP")  # those that keep every number; GIF leaves out unused ones and counts anew
SHOWN = 5  # colours or values in a message

Colour = tuple[int, int, int]


# Pillow spreads grey values of 2 and 4 bits over 0 to 255, as a picture needs it: an index of 1 would be 85, or 17.
FEW_BITS = {"L;2": 85, "L;4": 17}


@dataclass(frozen=True)
class MaskFile:
    """The values of a mask as they are stored, and the palette if the file has one: value -> colour.

    `has_one_bit` is whether a pixel has one bit, which a program that makes files smaller uses for 0 and 255 as well.
    """

    path: Path
    values: Integer[np.ndarray, "y x"]
    palette: Mapping[int, Colour] | None = None
    has_one_bit: bool = False


def read_mask(path: Path, colours: Mapping[Colour, int] | None = None) -> MaskFile:
    """The mask in a file. `colours` says which class each colour stands for, for masks that are stored in colour.

    Raises `ImageError` for a file that cannot be read, `DataError` for one that is not a picture of class indices.
    """
    try:
        with PillowWarningsOff(), Image.open(path) as image:
            if image.format not in FORMATS:
                raise DataError(
                    f"{path} is a {image.format} file, a format that may change pixel values or number them anew, "
                    f"so class indices are lost. Save masks as {FORMATS[0]}."
                )
            if (pages := getattr(image, "n_frames", 1)) > 1:
                raise DataError(f"{path} has {pages} pages; a mask is one. Save each page as a mask of its own.")
            stored = str(image.tile[0].args[0] if isinstance(image.tile[0].args, tuple) else image.tile[0].args)
            image.load()
            return mask_of(path, image, colours, FEW_BITS.get(stored, 1))
    except (DataError, ImageError):
        raise
    except FileNotFoundError as error:
        raise ImageError(f"There is no mask {path}. Check the path.") from error
    except Exception as error:  # decoders raise errors of many types for damaged files
        raise ImageError(f"{path} is damaged or not an image. Replace it.") from error


def mask_of(path: Path, image: Image.Image, colours: Mapping[Colour, int] | None, spread: int = 1) -> MaskFile:
    """By the mode of the image: indices of a palette, grey values (divided by `spread`), or colours.

    With `colours`, a palette none of whose colours is among them has indices: the colours then are for showing. So has
    a grey mask, unless all colours are grey levels. Raises `DataError` for a palette that has some of them only.
    """
    all_grey = colours is not None and all(len(set(colour)) == 1 for colour in colours)
    if colours is not None and (image.mode == "P" or (image.mode == "L" and all_grey)):
        shown = np.array(image.convert("RGB"))
        used = set(map(tuple, np.unique(shown.reshape(-1, 3), axis=0).tolist()))
        if used <= colours.keys():
            return MaskFile(path, indices_of(path, shown, colours))
        if image.mode == "P" and used & colours.keys():
            some, other = sorted(used & colours.keys())[0], sorted(used - colours.keys())[0]
            raise DataError(
                f"{path} has a palette in which the colour {some} stands for a class and {other} for none, so it may "
                "hold colours or class indices. Smoothed edges make colours between classes: save masks without."
            )
    if image.mode == "P":
        flat = image.getpalette("RGB") or []
        palette = {
            index: (flat[3 * index], flat[3 * index + 1], flat[3 * index + 2]) for index in range(len(flat) // 3)
        }
        return MaskFile(path, np.array(image), palette)
    if image.mode == "1":
        return MaskFile(path, np.array(image).astype(np.uint8), has_one_bit=True)
    if image.mode == "F":
        values = np.array(image)
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise DataError(f"{path} holds fractions, from {values.min():g} to {values.max():g}. Save class indices.")
        return MaskFile(path, values.astype(np.int64))
    if image.mode in ("L", "I") or image.mode.startswith("I;16"):
        return MaskFile(path, np.array(image).astype(np.int64) // spread)
    pixels = np.array(image.convert("RGB"))
    if colours is None:
        if (pixels == pixels[..., :1]).all():  # a grey picture that was saved in colour
            return MaskFile(path, pixels[..., 0].astype(np.int64))
        some = np.unique(pixels.reshape(-1, 3), axis=0)[:SHOWN].tolist()
        raise DataError(
            f"{path} is stored in colours, such as {', '.join(map(str, map(tuple, some)))}. Specify which class each "
            "stands for in classes.csv, with the columns name, red, green, blue; or save masks as class indices."
        )
    return MaskFile(path, indices_of(path, pixels, colours))


def indices_of(
    path: Path, pixels: UInt8[np.ndarray, "y x 3"], colours: Mapping[Colour, int]
) -> UInt8[np.ndarray, "y x"]:
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
