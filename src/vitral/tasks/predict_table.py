"""Predict every image of a folder into a CSV file, a batch at a time; a run that was interrupted is continued.

    photos.csv              a row per image, in the order of their names
    photos.csv.unfinished   which model writes it, and how many bytes are whole rows; removed at the end

A process that is killed leaves whole rows up to the last batch: what was written after them is cut off, and predicted
again. So each image has one row, and one that cannot be read has a row with the reason.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import nn

from vitral.base.errors import ImageError, StoreError, UsageError
from vitral.base.files import write_file, writing_to
from vitral.base.prediction import Prediction, predictions
from vitral.data import OnBadImage
from vitral.data.decode import load_resized
from vitral.data.examples import images_in
from vitral.data.reading import check_on_bad_image
from vitral.store.classifier import Classifier
from vitral.tasks.inputs import note_unknown
from vitral.tasks.predict import note_instability, open_classifier, predict_pixels
from vitral.tasks.progress import Progress, progress_for

BATCH = 64
DIGITS = 6  # significant digits of a number: its last ones depend on which images share a batch
IMAGE, UNLIKE, ERROR = "image", "unlike_training_images", "error"


@dataclass(frozen=True)
class PredictedTable:
    """The file, how many images it has rows for, how many of them were predicted now, and those that are unreadable."""

    csv: Path
    n: int
    new: int
    bad: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        known = f", {self.n - self.new:,} of them before" if self.n > self.new else ""
        bad = f"; {len(self.bad):,} cannot be read, and have the reason in the column {ERROR}" if self.bad else ""
        return f"{self.csv}: {self.n:,} images{known}{bad}"

    def to_json(self) -> dict[str, Any]:
        return {"csv": str(self.csv), "n": self.n, "new": self.new, "bad": list(self.bad)}


def predict_table(
    model: str | Path | nn.Module,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    progress: bool | Progress = False,
) -> PredictedTable:
    """Write a row for each image to the CSV file `out`, or continue that of an interrupted run.

    The columns are `image`, those of the task (`class` and `probability`; `classes` and a probability of each; the
    numbers), `unlike_training_images` (yes, no, or empty where these are unknown), and `error`. `images` are files and
    folders. With `on_bad_image` "fail" a file that cannot be read ends the run, which can be continued with "skip".

    Raises `UsageError` if `out` is finished, or was begun with another model, or if there are no images.
    """
    progress, out = progress_for(progress), Path(out)
    check_on_bad_image(on_bad_image)
    opened = open_classifier(model, progress, code)
    files = files_of(images)
    given = [images] if isinstance(images, str | Path) else list(images)
    settings = {
        "weights": weights_sha256(opened),
        "preprocessing": str(opened.preprocessing),
        "images": "\n".join(sorted(str(Path(one).resolve()) for one in given)),
    }
    with closing(Table(out, settings, columns_of(opened))) as table:
        new, known, bad = fill(table, opened, files, on_bad_image, progress)
    return PredictedTable(out, new + known, new, tuple(bad), tuple(progress.notes))


def fill(
    table: "Table", model: Classifier, files: Sequence[Path], on_bad_image: str, progress: Progress
) -> tuple[int, int, list[str]]:
    """Write the rows that are missing: how many, how many there were, and the images that cannot be read."""
    done = {row[IMAGE] for row in table.rows()}
    left = [file for file in files if str(file) not in done]
    note_unknown(model.record, progress)
    for start in range(0, len(left), BATCH):
        progress.count("images", len(done) + start, len(done) + len(left))
        batch = left[start : start + BATCH]
        table.add(rows_of(model, batch, on_bad_image, progress, is_first=not start))
    progress.close()
    return len(left), len(done), table.finish()


def files_of(images: str | Path | Sequence[str | Path]) -> list[Path]:
    """The images, each once, in order. Raises `UsageError` for a folder without any."""
    several = [images] if isinstance(images, str | Path) else list(images)
    found: dict[Path, None] = {}
    for one in map(Path, several):
        inside = images_in(one) if one.is_dir() else [one]
        if not inside:
            raise UsageError(f"There are no images in {one}.")
        found |= dict.fromkeys(inside)
    return list(found)


def rows_of(
    model: Classifier, files: Sequence[Path], on_bad_image: str, progress: Progress, is_first: bool
) -> list[dict[str, str]]:
    """A row for each file."""

    def load(file: Path) -> np.ndarray | ImageError:
        try:
            return load_resized(file, model.preprocessing)
        except ImageError as error:  # returned rather than raised, so that the batch goes on
            return error

    with ThreadPoolExecutor() as pool:
        loaded = dict(zip(files, pool.map(load, files)))
    errors = [one for one in loaded.values() if isinstance(one, ImageError)]
    if errors and on_bad_image == "fail":
        raise ImageError(
            f"{errors[0]} Rows so far are kept: run it again once the file is replaced, or with --on-bad-image skip."
        )
    read = {file: one for file, one in loaded.items() if isinstance(one, np.ndarray)}
    answers: dict[str, Prediction] = {}
    if read:
        pixels = np.stack(list(read.values()))
        if is_first:
            note_instability(model, pixels[:2], progress)
        _, found = predict_pixels(model, list(map(str, read)), pixels, [model.preprocessing.size] * len(read), progress)
        answers = {one.image: one for one in found}
    return [row_of(str(file), answers.get(str(file)), loaded[file]) for file in files]


def row_of(name: str, answer: Prediction | None, loaded: object) -> dict[str, str]:
    """The cells of one image."""
    if answer is None:
        return {IMAGE: name, ERROR: str(loaded)}
    unlike = "" if answer.distance is None else "yes" if answer.distance.note else "no"
    cells = {
        key: f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)
        for key, value in answer.to_csv_row().items()
    }
    return cells | {UNLIKE: unlike, ERROR: ""}


def columns_of(model: Classifier) -> list[str]:
    """The columns of the table. Raises `UsageError` for a class or number that is called like one of them."""
    record = model.record
    (blank,) = predictions([""], model.classes, [[0.0] * len(model.classes)], record.task, record.thresholds)
    columns = [*blank.to_csv_row(), UNLIKE, ERROR]
    if clash := [name for name in (IMAGE, UNLIKE, ERROR) if columns.count(name) > 1 or name in model.classes]:
        raise UsageError(f"{clash[0]!r} is a column of the table, and a class or number of the model: rename that.")
    return columns


def weights_sha256(model: nn.Module) -> str:
    """A hash of all weights, by which a model is known again."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Table:
    """The CSV file while it is written, and what lies beside it."""

    def __init__(self, path: Path, settings: dict[str, str], columns: Sequence[str]):
        """Begin the file, or open one that is unfinished, without what was written after its last whole batch.

        Raises `UsageError` for a file that is finished or of another model, `StoreError` for one that is damaged.
        """
        self.path, self.settings, self.columns = path, settings, list(columns)
        self.journal = path.with_name(f"{path.name}.unfinished")
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
            what = "of other images" if settings.get("weights") == self.settings["weights"] else "with another model"
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
