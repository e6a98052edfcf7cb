"""Decoded images on disk: a folder is decoded once, not by every run.

    pixels/SIZE-AND-DECODER/SET.pixels      n images of (height, width, 3) bytes
    pixels/SIZE-AND-DECODER/SET.contents    the SHA-256 of the file of each, a line each
    pixels/SIZE-AND-DECODER/unreadable      the SHA-256 of files that no image could be read from

SET is the SHA-256 of the contents, in their order. A set is written whole under another name and then renamed, and
never changed afterwards, so any number of processes may use it. It is mapped into memory: the system keeps as much of
it there as there is room for, and processes share that.

Axes:  n images   h w pixels of an image
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import PIL
from jaxtyping import UInt8

from vitral.base.errors import StoreError
from vitral.base.files import write_file
from vitral.base.preprocessing import Preprocessing
from vitral.data.image import HEIF
from vitral.data.mapped_pixels import file_of, reserve
from vitral.data.table_file import Report

FORMAT = 1  # raised whenever the same file would be decoded to other pixels
VARIABLE = "VITRAL_CACHE"  # of the environment: another folder, or "none"
LIMIT = 50e9  # bytes of all sets
UNUSED = 30 * 24 * 3600.0  # seconds after which a set is removed
ABANDONED = 24 * 3600.0  # seconds after which an unfinished set is nobody's any more


def find_cache(where: "str | PixelCache", report: Report) -> "PixelCache | None":
    """The cache in the folder `where`; "auto" is the user's own, "none" is none. One that is found stays."""
    if isinstance(where, PixelCache):
        return where
    if where == "auto":
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        where = os.environ.get(VARIABLE) or str(Path(home) / "vitral")
    return None if where == "none" else PixelCache(Path(where) / "pixels", report)


@dataclass(frozen=True)
class PixelCache:
    """The sets of decoded images in a folder; `report` gets a sentence about what was put there or removed."""

    home: Path
    report: Report = lambda sentence: None

    def shelf(self, preprocessing: Preprocessing, for_training: bool) -> "Shelf":
        """The sets of images that were decoded in one way."""
        # The mean and deviation of colours are applied later, to each batch.
        how = asdict(preprocessing) | {"mean": None, "std": None, "for_training": for_training}
        how |= {"format": FORMAT, "pillow": PIL.__version__, "heif": HEIF}
        return Shelf(self.home / digest(json.dumps(how, sort_keys=True))[:16], preprocessing.size)

    def tidy(self, kept: Path) -> None:
        """Remove sets that nobody has used for a month, then those unused for longest while there is too much."""
        removed, sizes = [], {}
        now = time.time()
        for path in self.home.glob("*/*"):
            with suppress(OSError):  # another process may be tidying
                found = path.stat()
                if path.suffix == UNFINISHED and now - found.st_mtime > ABANDONED:
                    path.unlink()
                elif path.suffix == PIXELS:
                    sizes[path] = found.st_mtime, found.st_size
        total = sum(size for _, size in sizes.values())
        for path, (used, size) in sorted(sizes.items(), key=lambda one: one[1]):
            if path != kept and (now - used > UNUSED or total > LIMIT):
                with suppress(OSError):
                    path.unlink()
                    path.with_suffix(CONTENTS).unlink(missing_ok=True)
                    removed.append(size)
                    total -= size
        if removed:
            self.report(f"Removed the least recently used decoded images from {self.home} ({in_bytes(sum(removed))}).")


PIXELS, CONTENTS, UNFINISHED = ".pixels", ".contents", ".unfinished"


@dataclass(frozen=True)
class Shelf:
    """Sets of images of one `size` (height, width), in one folder."""

    folder: Path
    size: tuple[int, int]

    @property
    def bytes_each(self) -> int:
        return self.size[0] * self.size[1] * 3

    def path_of(self, contents: Sequence[str]) -> Path:
        return self.folder / f"{digest(' '.join(contents))[:32]}{PIXELS}"

    def open(self, contents: Sequence[str]) -> UInt8[np.ndarray, "n h w 3"] | None:
        """The set of these images in this order, if it is there whole."""
        path = self.path_of(contents)
        try:
            if path.stat().st_size != len(contents) * self.bytes_each:
                return None
        except OSError:
            return None
        with suppress(OSError):  # a folder that only others may write to is read all the same
            os.utime(path)  # it is in use
        # Copy-on-write: PyTorch warns of arrays that cannot be written to. Nothing writes to it.
        return np.memmap(path, np.uint8, "c", shape=(len(contents), *self.size, 3))

    @cached_property
    def places(self) -> dict[str, tuple[Path, int]]:
        """In which set each image is, by its content, and at which place."""
        found: dict[str, tuple[Path, int]] = {}
        for path in self.folder.glob(f"*{CONTENTS}"):
            with suppress(OSError):
                contents, pixels = path.read_text().split(), path.with_suffix(PIXELS)
                if pixels.stat().st_size == len(contents) * self.bytes_each:
                    found.update((content, (pixels, place)) for place, content in enumerate(contents))
        return found

    def find(self, content: str) -> UInt8[np.ndarray, "h w 3"] | None:
        """One image out of any set."""
        path, place = self.places.get(content, (None, 0))
        if path is None:
            return None
        try:
            one = np.fromfile(path, np.uint8, self.bytes_each, offset=place * self.bytes_each)
        except OSError:  # another process has removed it
            return None
        return one.reshape(*self.size, 3) if len(one) == self.bytes_each else None

    def new(self, count: int) -> UInt8[np.ndarray, "n h w 3"]:
        """An unfinished set, to be written to. Raises `OSError` if there is no room for it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # images may be private
        with NamedTemporaryFile(dir=self.folder, suffix=UNFINISHED, delete=False) as file:
            try:
                reserve(file.fileno(), count * self.bytes_each)
            except BaseException:
                Path(file.name).unlink()
                raise
        return np.memmap(file.name, np.uint8, "r+", shape=(count, *self.size, 3))

    def keep(self, pixels: np.memmap, contents: Sequence[str]) -> UInt8[np.ndarray, "n h w 3"]:
        """Finish a set that `new` gave, and open it."""
        path = self.path_of(contents)
        pixels.flush()
        write_file(path.with_suffix(CONTENTS), "\n".join(contents))
        Path(file_of(pixels)).replace(path)
        found = self.open(contents)
        assert found is not None
        return found

    @property
    def unreadable(self) -> set[str]:
        """The contents of files that could not be read as images before."""
        try:
            return set((self.folder / "unreadable").read_text().split())
        except OSError:
            return set()

    def add_unreadable(self, contents: set[str]) -> None:
        with suppress(StoreError):  # a full disk: they are tried again the next time
            write_file(self.folder / "unreadable", "\n".join(sorted(self.unreadable | contents)))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def in_bytes(count: int) -> str:
    """A number of bytes for people.

    >>> in_bytes(8_400_000), in_bytes(5_270_000_000), in_bytes(900)
    ('8.4 MB', '5.3 GB', '1 kB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{max(1, round(count / 1e3))} kB"
