"""The result of predicting in tiles: a tiled, compressed TIFF of one class index per pixel, with the classes' names.

Its colours are a palette, so that any viewer shows the classes; its pixels are the indices.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16

from vitral.base.errors import StoreError
from vitral.base.files import writing_to
from vitral.base.mask_values import background_of
from vitral.data.large.tiff import import_tifffile
from vitral.data.mask_file import with_ignored
from vitral.report.masks import class_colours

BLOCK = 256  # pixels of a side of the TIFF's own tiles


def write_class_map(
    path: Path, classes: UInt8[np.ndarray, "y x"], names: Sequence[str], description: dict[str, Any]
) -> None:
    """Write the TIFF under a temporary name, then rename it; it is read block by block. Raises `StoreError`."""
    tifffile = import_tifffile()
    height, width = classes.shape
    temporary = path.with_name(f".{path.name}.writing")
    with writing_to(path):
        try:
            tifffile.imwrite(
                temporary,
                blocks(classes),
                shape=(height, width),
                dtype=np.uint8,
                tile=(BLOCK, BLOCK),
                compression="zlib",
                photometric="palette",
                colormap=palette(names),
                description=json.dumps(description),
                metadata=None,
                maxworkers=1,
            )
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def blocks(classes: UInt8[np.ndarray, "y x"]) -> Iterator[UInt8[np.ndarray, "block block"]]:
    """The blocks row by row, those at the border filled up with zeros."""
    for top in range(0, classes.shape[0], BLOCK):
        for left in range(0, classes.shape[1], BLOCK):
            block = np.zeros((BLOCK, BLOCK), np.uint8)
            part = classes[top : top + BLOCK, left : left + BLOCK]
            block[: part.shape[0], : part.shape[1]] = part
            yield block


def palette(names: Sequence[str]) -> UInt16[np.ndarray, "3 levels"]:
    """A colour for each class index, as masks and overlays have it: black for the background, white for 255."""
    background = background_of(names)
    colours = class_colours(names, background)
    if background is not None:
        colours[background] = 0
    return (with_ignored((colours * 255).astype(np.uint8)).astype(np.uint16) * 257).T


def read_description(path: Path) -> dict[str, Any] | None:
    """What `write_class_map` wrote about a result; None for any other file.

    Raises `StoreError` if the file cannot be read.
    """
    tifffile = import_tifffile()
    try:
        with tifffile.TiffFile(path) as file:
            content = json.loads(file.pages[0].description)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception:  # tifffile raises errors of many types for what is no TIFF
        return None
    return content if isinstance(content, dict) and "settings" in content else None
