"""Cover an image by overlapping tiles, and blend them so that the weights of each pixel sum to 1.

Along each axis a tile overlaps its neighbour. In the middle of the overlap lies a seam of `ramp` pixels, in which the
first tile's weight falls from 1 to 0 and the second's rises; elsewhere one tile alone counts:

    tile 0   |-- context --|======= weight 1 =======|\\\\ramp\\\\|-- context --|
    tile 1                             |-- context --|////ramp////|======= weight 1 =======| ...

So every pixel that counts has at least `context` pixels of its tile around it, except at the border of the image.

Axes:  y x pixels
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, UInt8

from vitral.base.errors import ConfigError
from vitral.data.large.image import LargeImage


@dataclass(frozen=True)
class TileAxis:
    """The tiles along one axis, in pixels: tile i covers `origins[i]` to `origins[i] + tile`.

    `seams[i]` is the first pixel of the seam between the tiles i and i + 1. `padded` is where the last tile ends;
    pixels from `length` on mirror those before.
    """

    length: int
    padded: int
    tile: int
    ramp: int
    origins: tuple[int, ...]
    seams: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.origins)

    def counted(self, index: int) -> tuple[int, int]:
        """Where a tile has weight: from the first pixel of the seam before it to the last of the seam after it."""
        first = self.seams[index - 1] if index else 0
        return first, self.seams[index] + self.ramp if index < len(self.seams) else self.padded


def ramp_weights(ramp: int) -> Float[np.ndarray, " ramp"]:
    """The weight of the later tile in a seam, rising from 0 to 1."""
    return (np.arange(ramp) + 0.5) / ramp if ramp else np.zeros(0)


def cover(length: int, tile: int, context: int, alignment: int, ramp: int, shrinks: bool) -> TileAxis:
    """Tiles for an axis of `length` pixels, each with `context` pixels that do not count at its inner ends.

    Origins are multiples of `alignment`, and so is the padded length. If the axis is shorter than a tile, the tile
    shrinks to it where `shrinks`, and else the axis is padded to the tile. The ramp is shortened to what fits.

    Raises `ConfigError` if the tile is no multiple of the alignment, or has no pixels left beside its context.

    >>> cover(100, tile=48, context=8, alignment=4, ramp=4, shrinks=False).origins
    (0, 24, 52)
    """
    if tile % alignment:
        below = tile // alignment * alignment
        fits = f"{below} or {below + alignment}" if below else f"{alignment}"
        raise ConfigError(
            f"tile={tile} does not fit the model, whose grid repeats every {alignment} pixels: use {fits}."
        )
    ramp = min(ramp, max(tile - 2 * context, 0) // 4)
    step = (tile - 2 * context - ramp) // alignment * alignment
    if step < 1:
        raise ConfigError(
            f"context={context} on both sides leaves nothing of a tile of {tile} pixels: use a larger tile, at least "
            f"{-(-(2 * context + alignment) // alignment) * alignment}, or a smaller context."
        )
    ramp = min(ramp, step // 2)  # so that no seam reaches into the next
    padded = -(-length // alignment) * alignment
    if padded <= tile:
        padded = tile = padded if shrinks else tile
        return TileAxis(length, padded, tile, ramp, (0,), ())
    gaps = -(-(padded - tile) // step)
    units = (padded - tile) // alignment
    origins = tuple(alignment * (index * units // gaps) for index in range(gaps + 1))
    seams = tuple(later + (earlier + tile - later - ramp) // 2 for earlier, later in pairwise(origins))
    return TileAxis(length, padded, tile, ramp, origins, seams)


def mirrored(first: int, count: int, length: int) -> Int[np.ndarray, " count"]:
    """The pixels to read for `count` pixels from `first` on: beyond the end the axis is mirrored, again and again.

    >>> mirrored(2, 5, 4).tolist()
    [2, 3, 3, 2, 1]
    """
    places = np.arange(first, first + count) % (2 * length)
    return np.where(places < length, places, 2 * length - 1 - places)


def read_rows(image: LargeImage, first: int, count: int, width: int) -> UInt8[np.ndarray, "y x 3"]:
    """A band of rows, mirrored beyond the image's height, and its columns mirrored to `width`."""
    rows, columns = mirrored(first, count, image.height), mirrored(0, width, image.width)
    top = int(rows.min())
    band = image.read(top, 0, int(rows.max()) + 1 - top, image.width)
    if first + count > image.height:
        band = band[rows - top]
    return band[:, columns] if width > image.width else band
