"""Pixels in a file that is mapped into memory.

Axes:  n images   h w pixels of an image   m chosen images
"""

import os
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from jaxtyping import Integer, UInt8

LARGE = 2**28  # bytes of pixels that are not copied into memory
AT_ONCE = 2**24  # bytes that are copied in one step


def reserve(file: int, size: int) -> None:
    """Make an open file so long. Raises `OSError` if the disk is full: writing to its map would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    for start in range(0, size, AT_ONCE):
        os.write(file, bytes(min(AT_ONCE, size - start)))


def discard(pixels: UInt8[np.ndarray, "n h w 3"]) -> None:
    """Remove the file of an unfinished set, if it has one."""
    if isinstance(pixels, np.memmap):
        Path(file_of(pixels)).unlink(missing_ok=True)


def file_of(pixels: np.memmap) -> str:
    assert pixels.filename is not None
    return os.fspath(pixels.filename)


def chosen_pixels(
    pixels: UInt8[np.ndarray, "n h w 3"], which: Integer[np.ndarray, " m"]
) -> UInt8[np.ndarray, "m h w 3"]:
    """Some of the images; many of a set on disk are on disk as well, in a file that goes with the process."""
    bytes_each = int(np.prod(pixels.shape[1:]))
    if not isinstance(pixels, np.memmap) or not pixels.filename or len(which) * bytes_each < LARGE:
        return np.asarray(pixels[which])
    with TemporaryFile(dir=Path(file_of(pixels)).parent) as file:
        try:
            reserve(file.fileno(), len(which) * bytes_each)
        except OSError:  # the disk is full
            return np.asarray(pixels[which])
        found = np.memmap(file, np.uint8, "r+", shape=(len(which), *pixels.shape[1:]))
    step = max(1, AT_ONCE // bytes_each)
    for start in range(0, len(which), step):
        found[start : start + step] = pixels[which[start : start + step]]
    return found
