"""A CSV file with one row per image that is written a batch at a time, and continued after an interruption.

    photos.csv              a row per image, in the order of their names
    photos.csv.unfinished   which model writes it, and how many bytes are whole rows; removed at the end

A process that is killed leaves whole rows up to the last batch: what was written after them is cut off, and made again.
So each image has one row, and one that cannot be read has a row with the reason.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from vitral.base.errors import ImageError, StoreError, UsageError
from vitral.base.files import write_file, writing_to
from vitral.base.preprocessing import Preprocessing
from vitral.data.decode import load_resized
from vitral.data.mask_folder import photographs_in
from vitral.data.table_file import Report
from vitral.store.classifier import Classifier

BATCH = 64
IMAGE, ERROR = "image", "error"
WHAT = {"weights": "with another model", "images": "of other images"}  # what differs between two runs


def files_of(images: str | Path | Sequence[str | Path], report: Report) -> list[Path]:
    """The images, each once, also if several paths lead to it, in order.

    `report` gets a sentence on masks that are left out. Raises `UsageError` for a folder without any images.
    """
    several = [images] if isinstance(images, str | Path) else list(images)
    found: dict[str, Path] = {}
    for one in map(Path, several):
        inside = photographs_in(one, report) if one.is_dir() else [one]
        if not inside:
            raise UsageError(f"There are no images in {one}.")
        for path in inside:
            found.setdefault(os.path.normpath(path.absolute()), path)
    return list(found.values())


def load_batch(
    files: Sequence[Path], preprocessing: Preprocessing, on_bad_image: str
) -> dict[Path, UInt8[np.ndarray, "y x 3"] | ImageError]:
    """The pixels of each file in the model's size, or why it cannot be read.

    Raises `ImageError` for the first such file unless `on_bad_image` is "skip".
    """

    def load(file: Path) -> np.ndarray | ImageError:
        try:
            return load_resized(file, preprocessing)
        except ImageError as error:  # returned rather than raised, so that the batch goes on
            return error

    with ThreadPoolExecutor() as pool:
        loaded = dict(zip(files, pool.map(load, files)))
    errors = [one for one in loaded.values() if isinstance(one, ImageError)]
    if errors and on_bad_image == "fail":
        raise ImageError(
            f"{errors[0]} Rows so far are kept: run it again once the file is replaced, or with --on-bad-image skip."
        )
    return loaded


def settings_of(model: Classifier, images: str | Path | Sequence[str | Path]) -> dict[str, str]:
    """What a table depends on: a run that continues it must have the same model and images."""
    given = [images] if isinstance(images, str | Path) else list(images)
    return {
        "weights": weights_sha256(model),
        "preprocessing": str(model.preprocessing),
        "images": "\n".join(sorted(str(Path(one).resolve()) for one in given)),
    }


def weights_sha256(model: nn.Module) -> str:
    """A hash of all weights, by which a model is known again."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def journal_of(path: Path) -> Path:
    """What lies beside a table that is not finished."""
    return path.with_name(f"{path.name}.unfinished")


class UnfinishedTable:
    """The CSV file while it is written, and what lies beside it."""

    def __init__(self, path: Path, settings: dict[str, str], columns: Sequence[str]):
        """Begin the file, or open one that is unfinished, without what was written after its last whole batch.

        Raises `UsageError` for a file that is finished or of another model, `StoreError` for one that is damaged.
        """
        self.path, self.settings, self.columns = path, settings, list(columns)
        self.journal = journal_of(path)
        self.opened: BinaryIO | None = None
        if self.journal.is_file():
            size = self.read_journal()
            self.lock()
            self.cut_off(size)
        elif path.exists():
            raise UsageError(f"{path} exists and is not overwritten. Choose another name, or remove it.")
        else:
            text = io.StringIO()
            csv.DictWriter(text, self.columns, lineterminator="\r\n").writeheader()
            write_file(path, text.getvalue())
            self.note_size()
            self.lock()

    def lock(self) -> None:
        """Keep other processes from writing the same file; the system lets go of it when this one ends.

        Raises `UsageError` if another one does.
        """
        try:
            import fcntl
        except ImportError:  # on Windows a file that is open cannot be shortened by another process
            return
        self.opened = self.path.open("ab")
        try:
            fcntl.flock(self.opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise UsageError(
                f"{self.path} is being written by another process. Wait, or choose another name."
            ) from error

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()

    def read_journal(self) -> int:
        """How many bytes of the file are whole rows."""
        try:
            found = json.loads(self.journal.read_text(encoding="utf-8"))
            settings, size = found["settings"], int(found["bytes"])
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"{self.journal} is damaged. Delete it and {self.path} to start over.") from error
        if settings != self.settings:
            changed = [key for key in (*WHAT, *settings) if settings.get(key) != self.settings.get(key)]
            what = WHAT.get(changed[0] if changed else "", "with other settings")
            raise UsageError(
                f"{self.path} was begun {what}. Choose another name, or delete it and {self.journal.name}."
            )
        return size

    def cut_off(self, size: int) -> None:
        """Shorten the file to what was whole."""
        if not self.path.is_file() or self.path.stat().st_size < size:
            raise StoreError(f"{self.path} is shorter than it was. Delete it and {self.journal.name} to start over.")
        with writing_to(self.path):
            os.truncate(self.path, size)

    def rows(self) -> list[dict[str, str]]:
        with self.path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return list(csv.DictReader(file))

    def add(self, rows: Sequence[dict[str, str]]) -> None:
        """Append rows, and only then count them as written."""
        text = io.StringIO()
        csv.DictWriter(text, self.columns, restval="", lineterminator="\r\n").writerows(rows)
        with writing_to(self.path), self.path.open("ab") as file:
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        self.note_size()

    def note_size(self) -> None:
        record = {"settings": self.settings, "bytes": self.path.stat().st_size}
        write_file(self.journal, json.dumps(record) + "\n")

    def finish(self) -> list[str]:
        """The images that could not be read; from now on the file is whole."""
        bad = [row[IMAGE] for row in self.rows() if row[ERROR]]
        with writing_to(self.journal):
            self.journal.unlink()
        return bad
