"""What lies beside an unfinished result: the classes so far, the last seam, and a journal of the rows that are done.

    scan.classes.tif.partial/
      classes.u8      one byte per pixel, memory-mapped while tiles are predicted
      seam-0.f32      logits of the seam above the next row of tiles, or below it: they take turns
      seam-1.f32
      journal.json    the settings and how many rows of tiles are done, replaced as a whole after each row

A process that is killed leaves the journal of the last complete row: what was written later is written again.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from vitral.base.errors import StoreError, UsageError
from vitral.base.files import write_file, writing_to

JOURNAL, CLASSES, SEAMS = "journal.json", "classes.u8", ("seam-0.f32", "seam-1.f32")
VERSION = 1


class Journal:
    """The folder of an unfinished result. `rows_done` rows of tiles are final; `found` is what was measured of them."""

    def __init__(self, result: Path, settings: dict[str, Any], shape: tuple[int, int], seam: tuple[int, int, int]):
        """Open the folder, or make it: for a result of `shape` with seams of shape (classes, ramp, width).

        Raises `UsageError` if it holds a result with other settings, `StoreError` if it cannot be written or read.
        """
        self.folder = folder_of(result)
        self.settings, self.rows_done, self.found = settings, 0, dict[str, Any]()
        is_new = not (self.folder / JOURNAL).exists()
        if not is_new:
            self.read()
        with writing_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.classes = self.map_file(CLASSES, np.uint8, shape, is_new)
            self.seams = tuple(self.map_file(name, np.float32, seam, is_new) for name in SEAMS)
        if is_new:
            self.write(0, {})

    def map_file(self, name: str, dtype: Any, shape: tuple[int, ...], is_new: bool) -> np.ndarray:
        """One of the files as an array, created with zeros if it is new."""
        path, size = self.folder / name, int(np.prod(shape)) * np.dtype(dtype).itemsize
        if not size:  # without seams there is nothing to map
            return np.zeros(shape, dtype)
        if is_new:
            with path.open("wb") as file:
                file.truncate(size)
                if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and not a fault in the middle
                    os.posix_fallocate(file.fileno(), 0, size)
        elif not path.is_file() or path.stat().st_size != size:
            raise StoreError(f"{path} is damaged. Delete {self.folder} to start over.")
        return np.memmap(path, dtype, "r+", shape=shape)

    def read(self) -> None:
        """Take over what the journal says. Raises `UsageError` if it belongs to another result."""
        path = self.folder / JOURNAL
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content["version"]
            settings, self.rows_done, self.found = content["settings"], content["rows_done"], content["found"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} cannot be read. Delete {self.folder} to start over.") from error
        if version != VERSION:
            raise StoreError(
                f"{path} was written by another version of Vitral (format {version}, here {VERSION}). Delete "
                f"{self.folder} to start over."
            )
        if changed := differences(settings, self.settings):
            raise UsageError(
                f"{self.folder} holds an unfinished result with other settings: {changed}. Repeat its command to "
                "continue it, choose another --out, or delete the folder."
            )

    def write(self, rows_done: int, found: dict[str, Any]) -> None:
        """Record that so many rows are final, after their pixels are on the disk."""
        with writing_to(self.folder):
            for array in (self.classes, *self.seams):
                if isinstance(array, np.memmap):
                    array.flush()
        self.rows_done, self.found = rows_done, found
        content = {"version": VERSION, "settings": self.settings, "rows_done": rows_done, "found": found}
        write_file(self.folder / JOURNAL, json.dumps(content, indent=2) + "\n")

    def remove(self) -> None:
        """Delete the folder, once the result is whole."""
        self.classes, self.seams = np.zeros((0, 0), np.uint8), ()
        remove_folder(self.folder)


def folder_of(result: Path) -> Path:
    """The folder beside a result that is not finished."""
    return result.with_name(f"{result.name}.partial")


def remove_folder(folder: Path) -> None:
    """Delete what a journal has written, the journal last; a folder that holds anything else stays."""
    for name in (*SEAMS, CLASSES, JOURNAL):
        (folder / name).unlink(missing_ok=True)
    for left in folder.glob(f".{JOURNAL}.*"):  # of a process that was killed while it wrote
        left.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def differences(before: Any, now: dict[str, Any]) -> str:
    """Which settings differ, with short values of both; empty if none does.

    >>> differences({"tile": 512, "context": 8}, {"tile": 256, "context": 8})
    'tile (there 512, here 256)'
    """
    if not isinstance(before, dict):
        return "they cannot be read"
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} (there {short(before.get(name))}, here {short(now.get(name))})" for name in names)


def short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."
