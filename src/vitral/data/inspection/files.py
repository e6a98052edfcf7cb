"""The facts of image files that their headers state; only files of 16 bits are decoded."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitral.data.image import FORMATS, PillowWarningsOff

ORIENTATION = 274  # the EXIF tag
SIDEWAYS = range(5, 9)  # its values that exchange height and width


@dataclass(frozen=True)
class FileFacts:
    """One file: the size of the upright image, its mode as Pillow calls it, its pages or frames, and bits in use.

    `largest` is the largest value of an image of 16 bits, 0 for others.
    """

    path: Path
    height: int
    width: int
    format: str
    mode: str
    pages: int = 1
    largest: int = 0

    @property
    def bits(self) -> int:
        """How many bits the values of an image of 16 need; 0 for others."""
        return self.largest.bit_length()


def file_facts(path: Path) -> FileFacts | None:
    """The facts of a file; None for one that cannot be opened, which whoever decodes it reports."""
    try:
        with PillowWarningsOff(), Image.open(path, formats=FORMATS) as image:
            width, height = image.size[::-1] if is_turned(image) else image.size
            deep = image.mode == "I" or image.mode.startswith("I;16")
            largest = int(np.asarray(image).max()) if deep else 0
            pages = int(getattr(image, "n_frames", 1))
            return FileFacts(path, height, width, str(image.format), image.mode, pages, largest)
    except Exception:  # decoders raise errors of many types for damaged files
        return None


def is_turned(image: Image.Image) -> bool:
    """Whether its EXIF tag exchanges height and width. A PNG file may have that after its pixels, but hardly does: to
    look for it there, Pillow would decode them."""
    if image.format == "PNG" and "exif" not in image.info:
        return False
    return image.getexif().get(ORIENTATION, 1) in SIDEWAYS


def facts_of(paths: Sequence[Path], progress: Callable[[int, int], None]) -> Iterator[FileFacts]:
    """The facts of all files that can be opened, in order; `progress` gets how many of how many were opened."""
    with ThreadPoolExecutor() as pool:
        for number, found in enumerate(pool.map(file_facts, paths), 1):
            progress(number, len(paths))
            if found is not None:
                yield found
