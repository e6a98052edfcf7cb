"""Image files to the pixels of a split: decoded by threads into one array, in memory or in the cache on disk.

Axes:  n images   m of them, those that can be read   h w pixels of an image
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from vitral.base.errors import ImageError, StoreError
from vitral.base.files import sha256
from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import random_order
from vitral.data.decode import load_resized
from vitral.data.mapped_pixels import discard
from vitral.data.pixel_cache import Shelf, in_bytes
from vitral.data.reading import Reading


@dataclass(frozen=True)
class ReadImages:
    """Images in the random order of a split; `kept` has the number of the file of each, among all that were given.

    `source_index` has its number among those that could be read. `errors` has an error for each file that could not.
    """

    pixels: UInt8[np.ndarray, "n h w 3"]
    kept: Int[np.ndarray, " n"]
    source_index: Int[np.ndarray, " n"]
    errors: Sequence[ImageError | None]


def read_pixels(
    files: Sequence[Path], contents: Sequence[str], preprocessing: Preprocessing, split: str, reading: Reading
) -> ReadImages:
    """Read each file, whose SHA-256 is in `contents`; training images may be decoded at a fraction of their size."""
    reader = Reader(files, contents, preprocessing, split, reading)
    if reader.shelf:
        # A set is named by what could be read. So files that could not be, the last time, are tried first.
        before = reader.shelf.unreadable
        reader.each([index for index, content in enumerate(contents) if content in before], reader.decode)
    kept, order = reader.in_random_order()
    pixels = reader.shelf.open(reader.contents_of(kept)) if reader.shelf else None
    if pixels is None:
        pixels = reader.fill(kept)
        kept, order = reader.in_random_order()
    return ReadImages(pixels, kept, order, reader.errors)


class Reader:
    """The files of a split that are being read, and what was wrong with each."""

    def __init__(
        self,
        files: Sequence[Path],
        contents: Sequence[str],
        preprocessing: Preprocessing,
        split: str,
        reading: Reading,
    ):
        self.files, self.contents, self.split, self.reading = files, contents, split, reading
        self.preprocessing, self.for_training = preprocessing, split == "train"
        self.shelf: Shelf | None = reading.cache.shelf(preprocessing, self.for_training) if reading.cache else None
        self.errors: list[ImageError | None] = [None] * len(files)

    def in_random_order(self) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """The files without an error in the random order of their split; and the order itself."""
        good = np.flatnonzero([error is None for error in self.errors])
        order = random_order(len(good))
        return good[order], order

    def contents_of(self, which: Int[np.ndarray, " n"]) -> list[str]:
        return [self.contents[index] for index in which]

    def fill(self, wanted: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "m h w 3"]:
        """Decode these files into a new array, in their order; without those that turn out to be unreadable."""
        place = {int(index): number for number, index in enumerate(wanted)}
        pixels = self.new(len(wanted))

        def read_one(index: int) -> None:
            found = self.shelf.find(self.contents[index]) if self.shelf else None
            if found is None:
                found = self.decode(index)
            if found is not None:
                pixels[place[index]] = found

        try:
            self.each(sorted(place), read_one)
            kept, _ = self.in_random_order()
            if len(kept) < len(wanted):
                pixels = self.moved_together(pixels, [place[int(index)] for index in kept])
                if self.shelf:
                    self.shelf.add_unreadable({self.contents[index] for index in place if self.errors[index]})
        except BaseException:
            discard(pixels)
            raise
        return self.keep(pixels, kept)

    def decode(self, index: int) -> UInt8[np.ndarray, "h w 3"] | None:
        """The image of a file, None if it cannot be read; the error is kept, so that all bad files can be listed."""
        file = self.files[index]
        try:
            found = load_resized(file, self.preprocessing, self.for_training)
            # Pixels are kept under the content that the file had when it was listed.
            if self.shelf and sha256(file) != self.contents[index]:
                raise ImageError(f"{file} was changed while the folder was being read. Start again.")
        except ImageError as error:
            self.errors[index] = error
            return None
        return found

    def each(self, which: Sequence[int], act: Callable[[int], object]) -> None:
        """Do something with each of some files, in threads: Pillow releases Python's lock while it decodes."""
        with ThreadPoolExecutor() as pool:
            for done, _ in enumerate(pool.map(act, which), 1):
                self.reading.count(f"reading {self.split} images", done, len(which))

    def new(self, count: int) -> UInt8[np.ndarray, "n h w 3"]:
        """Room for so many images: on disk, or in memory if there is no room there."""
        if self.shelf:
            try:
                return self.shelf.new(count)
            except OSError as error:
                self.reading.report(
                    f"Decoded {self.split} images are kept in memory, not in {self.shelf.folder}: {error.strerror}."
                )
                self.shelf = None
        return np.empty((count, *self.preprocessing.size, 3), np.uint8)

    def moved_together(
        self, pixels: UInt8[np.ndarray, "n h w 3"], places: Sequence[int]
    ) -> UInt8[np.ndarray, "m h w 3"]:
        """The images at these places, without gaps."""
        found = self.new(len(places))
        for number, place in enumerate(places):
            found[number] = pixels[place]
        discard(pixels)
        return found

    def keep(self, pixels: UInt8[np.ndarray, "n h w 3"], kept: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n h w 3"]:
        """Put a set on disk into the cache, and say so."""
        if not (self.shelf and self.reading.cache and isinstance(pixels, np.memmap)):
            return pixels
        if not len(pixels):
            discard(pixels)
            return np.empty((0, *self.preprocessing.size, 3), np.uint8)
        try:
            found = self.shelf.keep(pixels, self.contents_of(kept))
        except StoreError as error:  # the disk has become full since there was room
            self.reading.report(f"Decoded {self.split} images are kept in memory: {error}")
            in_memory = np.array(pixels)
            discard(pixels)
            return in_memory
        home = self.reading.cache.home
        self.reading.cache.report(
            f"{len(found):,} decoded {self.split} images are kept in {home} ({in_bytes(found.nbytes)})."
        )
        self.reading.cache.tidy(self.shelf.path_of(self.contents_of(kept)))
        return found
