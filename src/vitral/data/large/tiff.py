"""Read windows of a TIFF: tiles or strips, classic or BigTIFF, of the largest level of a pyramid.

tifffile finds the pixels and zarr decodes only the tiles that a window touches; uncompressed pixels in one piece are
memory-mapped.

Axes:  y x pixels   s samples (channels) of a pixel
"""

import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vitral.base.errors import ConfigError, ImageError

MOST_PIXELS_OF_BLOCK = 1 << 25  # of one tile or strip; a window decodes every block that it touches
ALPHA = (1, 2)  # extra samples that are transparency: premultiplied, or not
PREMULTIPLIED = 1
GREY, RGB, PALETTE, YCBCR, JPEG = (0, 1), 2, 3, 6, 7  # in grey, 0 is white for the first and black for the second


class NotInParts(Exception):
    """The reason why a TIFF's pixels cannot be read in parts; caught by who decodes it whole."""


def import_tifffile() -> Any:
    """The module, once it is certain that zarr is there, too. Raises `ConfigError` if one of them is missing."""
    try:
        import tifffile
        import zarr  # noqa: F401 - tifffile reads in parts through it
    except ImportError as error:
        raise ConfigError(
            f"Large images need tifffile and zarr, and {error.name} is missing. Install them: pip install "
            "'vitral[tiles]'."
        ) from error
    return tifffile


class TiffImage:
    """The first image of a TIFF as 8-bit RGB: of a pyramid the largest level, of a stack the first page.

    Values become RGB as in `load_image`: integers are scaled by the range of their bits, transparent pixels become
    white, a palette gives its colours.

    Raises `NotInParts` with the reason for what only a whole decoding can read, `ImageError` for a damaged file or for
    channels that are not colours.
    """

    def __init__(self, path: Path, note: Callable[[str], None]):
        tifffile = import_tifffile()
        self.path = path
        try:
            file = tifffile.TiffFile(path)
            weakref.finalize(self, file.close)
            self.reader = ThreadPoolExecutor(max_workers=1)
            page = file.series[0].levels[0].keyframe
            check_in_parts(page)
            check_decoders(page, tifffile.TIFF)
            self.height, self.width = page.imagelength, page.imagewidth
            self.samples_first = page.samplesperpixel > 1 and page.planarconfig == 2
            self.to_rgb = conversion(page, path, note)
            is_mapped = page.is_memmappable  # uncompressed and in one piece
            self.pixels = tifffile.memmap(path, page=page.index, mode="r") if is_mapped else open_zarr(page.aszarr())
            for sentence in parts_left_out(file, page):
                note(f"{path} {sentence}")
            self.read(0, 0, 1, 1)  # so that damage is found before any work
        except (NotInParts, ImageError, ConfigError):
            raise
        except Exception as error:  # tifffile raises errors of many types
            raise damaged(path, error) from error

    def read(self, top: int, left: int, height: int, width: int) -> UInt8[np.ndarray, "y x 3"]:
        """The pixels of a window that lies inside the image. Raises `ImageError` if they are damaged."""
        place: tuple[slice, ...] = slice(top, top + height), slice(left, left + width)
        if self.samples_first:
            place = slice(None), *place
        try:
            # In a thread of its own, which ends what it began: Ctrl-C would leave zarr's tasks unfinished, and Python
            # complains of each when it exits.
            found = np.asarray(self.reader.submit(self.pixels.__getitem__, place).result())
        except Exception as error:  # decoders raise errors of many types for damaged files
            raise damaged(self.path, error) from error
        return self.to_rgb(np.moveaxis(found, 0, 2) if self.samples_first else found)


def open_zarr(store: Any) -> Any:
    """The array in a store of tifffile."""
    import zarr

    return zarr.open(store, mode="r")


def damaged(path: Path, error: Exception) -> ImageError:
    """What to raise for an error of tifffile."""
    reason = str(error).rstrip(".") or type(error).__name__
    return ImageError(f"{path} is damaged or incomplete ({reason}). Replace or remove it.")


def check_decoders(page: Any, tables: Any) -> None:
    """Raise `NotInParts` if tifffile has no decoder for the compression, or for the predictor that preceded it."""
    for table, used in ((tables.DECOMPRESSORS, page.compression), (tables.UNPREDICTORS, page.predictor)):
        try:
            table[used]
        except KeyError as error:
            raise NotInParts(
                f"it can be read in parts only with imagecodecs, for {getattr(used, 'name', used)} compression (pip "
                "install imagecodecs)"
            ) from error


def parts_left_out(file: Any, page: Any) -> list[str]:
    """A sentence for each kind of choice: levels of a pyramid, planes of a stack, further images in the file."""
    series = file.series[0]
    size = f"{page.imagelength:,} x {page.imagewidth:,}"
    found = []
    if len(series.levels) > 1:
        found.append(f"is a pyramid of {len(series.levels)} levels: the largest, {size}, is read.")
    planes = int(np.prod(series.shape)) // max(int(np.prod(page.shape)), 1)
    if planes > 1:
        found.append(f"holds {planes} planes (axes {series.axes}): the first is read, and nothing of the others.")
    if others := [" x ".join(f"{side:,}" for side in one.shape) for one in file.series[1:]]:
        shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        found.append(f"holds {len(others) + 1} images: the first, {size}, is read; left out: {shown}.")
    return found


def check_in_parts(page: Any) -> None:
    """Raise `NotInParts` for pixels that a window cannot be cut from, or that need a conversion of the whole image."""
    orientation = page.tags.get("Orientation")
    if orientation is not None and int(orientation.value) != 1:
        raise NotInParts(f"its orientation tag ({int(orientation.value)}) says that it must be turned upright")
    if page.photometric not in (*GREY, RGB, PALETTE) and not (page.photometric == YCBCR and page.compression == JPEG):
        raise NotInParts(f"its colours are stored as {getattr(page.photometric, 'name', page.photometric)}")
    if page.imagedepth > 1 or not isinstance(page.bitspersample, int):
        raise NotInParts("it is a volume, or its channels differ in depth")
    if page.dtype is None or page.dtype.kind not in ("b", "u") or page.dtype.itemsize > 2:
        raise NotInParts(f"its values are {page.dtype}, whose range is known only from all of them")
    if page.is_memmappable:
        return
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    if rows >= page.imagelength and columns >= page.imagewidth and page.imagelength > 1:
        raise NotInParts("its pixels are packed in one piece")
    if rows * columns > MOST_PIXELS_OF_BLOCK:
        raise NotInParts(f"its pixels are packed in pieces of {rows:,} x {columns:,}")


def conversion(page: Any, path: Path, note: Callable[[str], None]) -> Callable[[np.ndarray], np.ndarray]:
    """How a window of this page's values (y, x) or (y, x, s) becomes 8-bit RGB.

    Raises `ImageError` for channels that are not colours.
    """
    samples, extra = page.samplesperpixel, tuple(int(kind) for kind in page.extrasamples)
    colours = 3 if page.photometric in (RGB, YCBCR) else 1
    alpha = samples > colours and extra[:1] and extra[0] in ALPHA
    if samples < colours or (colours == 1 and samples > 1 + bool(alpha)):
        raise ImageError(
            f"{path} has {samples} channels that are not marked as red, green and blue, so they have no meaning for "
            "the model. Save the three that do as an RGB TIFF."
        )
    if samples > colours + bool(alpha):
        note(f"{path} has {samples} channels: red, green and blue are read, and nothing of the others.")
    if alpha:
        note(f"{path} has transparency: transparent pixels become white.")
    table = eight_bit_table(page)
    if len(table) > 256:
        note(f"{path} has {page.bitspersample} bits per value: they are scaled to 8 bits, {len(table) - 1:,} is white.")

    def to_rgb(values: np.ndarray) -> UInt8[np.ndarray, "y x 3"]:
        if values.ndim == 2:
            values = values[..., None]
        colour = values[..., :colours]
        rgb = colour if plain else table[colour.astype(np.uint8) if colour.dtype == bool else colour]
        if page.photometric == PALETTE:
            rgb = rgb[..., 0, :]
        elif colours == 1:
            rgb = np.repeat(rgb, 3, axis=2)
        return on_white(rgb, scale[values[..., colours]], extra[0]) if alpha else np.ascontiguousarray(rgb)

    plain = page.photometric not in (0, PALETTE) and len(table) == 256 and page.bitspersample == 8
    scale = grey_levels(page.bitspersample)
    return to_rgb


def eight_bit_table(page: Any) -> np.ndarray:
    """For each value that a sample may have: its level from 0 to 255, or its colour (3) in a palette."""
    if page.photometric == PALETTE:  # its colours have 16 bits, of which Pillow takes the upper 8, too
        return (np.asarray(page.colormap, np.uint16).T >> 8).astype(np.uint8)
    levels = grey_levels(page.bitspersample)
    return levels[::-1].copy() if page.photometric == 0 else levels


def grey_levels(bits: int) -> UInt8[np.ndarray, " levels"]:
    """The level from 0 to 255 for each value of so many bits."""
    return np.round(np.arange(1 << bits) * (255 / ((1 << bits) - 1))).astype(np.uint8)


def on_white(rgb: UInt8[np.ndarray, "y x 3"], alpha: UInt8[np.ndarray, "y x"], kind: int) -> np.ndarray:
    """The colours over a white background; `kind` says whether they are multiplied by alpha already."""
    part, background = alpha[..., None].astype(np.uint16), 255 - alpha[..., None].astype(np.uint16)
    if kind == PREMULTIPLIED:
        return np.minimum(rgb + background, 255).astype(np.uint8)
    return ((rgb * part + 255 * background + 127) // 255).astype(np.uint8)
