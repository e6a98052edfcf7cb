"""Read an image file in a model's size, with memory for few large images at a time.

A photograph of 64 million pixels takes 192 MB once it is decoded. Threads that read many of them wait until there is
room. Of a JPEG the decoder can give a half, a quarter or an eighth of the size in a fraction of the time; that serves
for training, where images are changed at random anyway, and never for what is judged or predicted.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vitral.base.preprocessing import Preprocessing
from vitral.data.image import opened, upright_rgb
from vitral.data.preprocess import crop_and_resize_rgb, window_of

PIXELS_AT_ONCE = 64_000_000  # of all images that are being decoded; a larger one is decoded alone
ENOUGH = 2  # pixels of a reduced image, along each side, per pixel of the result
ORIENTATION, ON_ITS_SIDE = (
    274,
    range(5, 9),
)  # the EXIF tag, and its values for an image that is to be turned by 90 degrees


def load_resized(path: Path, preprocessing: Preprocessing, for_training: bool = False) -> UInt8[np.ndarray, "h w 3"]:
    """What `crop_and_resize` makes of `load_image`; `for_training`, a JPEG may be decoded at a fraction of its size.

    Raises `ImageError` as `load_image` does.
    """
    with opened(path) as image:
        if for_training and image.format == "JPEG":
            reduce(image, preprocessing)
        with ROOM.for_pixels(image.width * image.height):
            image.load()
            return crop_and_resize_rgb(upright_rgb(image, str(path)), preprocessing)


def reduce(image: Image.Image, preprocessing: Preprocessing) -> None:
    """Let a JPEG be decoded at a fraction of its size, if that has `ENOUGH` pixels."""
    is_turned = image.getexif().get(ORIENTATION, 1) in ON_ITS_SIDE
    height, width = preprocessing.size
    size = image.size if is_turned else image.size[::-1]  # (rows, columns) once it is upright
    left, top, right, bottom = window_of(size, preprocessing)
    rows = math.ceil(ENOUGH * height * size[0] / (bottom - top))
    columns = math.ceil(ENOUGH * width * size[1] / (right - left))
    image.draft(image.mode, (rows, columns) if is_turned else (columns, rows))


class Room:
    """Room for so many pixels at a time, which threads wait for."""

    def __init__(self, pixels: int):
        self.pixels = self.left = pixels
        self.changed = Condition()

    @contextmanager
    def for_pixels(self, count: int) -> Iterator[None]:
        taken = min(count, self.pixels)  # an image that is larger than all of it waits until it is alone
        with self.changed:
            self.changed.wait_for(lambda: self.left >= taken)
            self.left -= taken
        try:
            yield
        finally:
            with self.changed:
                self.left += taken
                self.changed.notify_all()


ROOM = Room(PIXELS_AT_ONCE)
