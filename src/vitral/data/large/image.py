"""Open an image of any size to read windows of it, without decoding the rest where its format allows that.

Axes:  y x pixels
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vitral.base.errors import ImageError
from vitral.data.image import FORMATS, MAX_PIXELS, PillowWarningsOff, load_image

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # little and big endian; the last two are BigTIFF


@runtime_checkable
class LargeImage(Protocol):
    """An upright RGB image of `height` x `width` pixels, of which windows can be read."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    def read(self, top: int, left: int, height: int, width: int) -> UInt8[np.ndarray, "y x 3"]:
        """The pixels of a window that lies inside the image."""
        ...


@dataclass(frozen=True)
class DecodedImage:
    """An image whose pixels are in memory, because its format cannot be read in parts."""

    pixels: UInt8[np.ndarray, "y x 3"]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    def read(self, top: int, left: int, height: int, width: int) -> UInt8[np.ndarray, "y x 3"]:
        return self.pixels[top : top + height, left : left + width]


def open_large_image(path: str | Path, note: Callable[[str], None] = lambda sentence: None) -> LargeImage:
    """An image file, ready to read windows of it; `note` takes sentences on which part of the file is read, and how.

    A TIFF is read in parts. Any other format, and a TIFF whose pixels cannot be read in parts, is decoded whole by
    `load_image`; the memory that this takes is noted first.

    Raises `ImageError` for a file that is no image or damaged, that holds more pixels than can be decoded whole and
    cannot be read in parts, or whose values have no meaning as RGB; `ConfigError` if the extra `tiles` is missing.
    """
    from vitral.data.large.tiff import NotInParts, TiffImage

    path = Path(path)
    if not is_tiff(path):
        return decode_whole(path, "this format cannot be read in parts", note)
    try:
        return TiffImage(path, note)
    except NotInParts as reason:
        return decode_whole(path, str(reason), note)


def is_tiff(path: Path) -> bool:
    """Whether the file starts as a TIFF does, whatever its suffix; False if it cannot be read."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(4) in TIFF_SIGNATURES
    return False


def decode_whole(path: Path, reason: str, note: Callable[[str], None]) -> DecodedImage:
    """Load the image into memory. Raises `ImageError` with the reason if it has too many pixels for that."""
    width = height = 0
    # A file that does not open gets its sentence from `load_image`.
    with suppress(Exception), PillowWarningsOff(), Image.open(path, formats=FORMATS) as image:
        width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{path} has {height:,} x {width:,} pixels, and {reason}; whole, at most {MAX_PIXELS:,} pixels are "
            "decoded. Save it as a tiled TIFF of 8-bit RGB with deflate compression."
        )
    if width:
        note(f"{path} is decoded whole, {3 * width * height / 1e6:,.0f} MB of memory: {reason}.")
    return DecodedImage(load_image(path))
