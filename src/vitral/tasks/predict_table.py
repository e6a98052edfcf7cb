"""Predict every image of a folder into a CSV file, a batch at a time; a run that was interrupted is continued."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from vitral.base.abstention import Abstention
from vitral.base.errors import UsageError
from vitral.base.prediction import Prediction, predictions
from vitral.data import OnBadImage
from vitral.data.reading import check_on_bad_image
from vitral.store.classifier import Classifier
from vitral.tasks.inputs import model_name, note_unknown
from vitral.tasks.predict import abstention_of, note_instability, open_classifier, predict_pixels
from vitral.tasks.progress import Progress, progress_for
from vitral.tasks.unfinished_table import BATCH, ERROR, IMAGE, UnfinishedTable, files_of, load_batch, settings_of

DIGITS = 6  # significant digits of a number: its last ones depend on which images share a batch
UNLIKE = "unlike_training_images"


@dataclass(frozen=True)
class PredictedTable:
    """The file, how many images it has rows for, how many of them were predicted now, and those that are unreadable."""

    csv: Path
    n: int
    new: int
    bad: tuple[str, ...]
    notes: tuple[str, ...] = ()
    unknown: int | None = None  # answers below the threshold of a wanted accuracy

    def text(self) -> str:
        known = f", {self.n - self.new:,} of them before" if self.n > self.new else ""
        bad = f"; {len(self.bad):,} cannot be read, and have the reason in the column {ERROR}" if self.bad else ""
        unknown = "" if self.unknown is None else f"; {self.unknown:,} of those predicted are unknown"
        return f"{self.csv}: {self.n:,} images{known}{bad}{unknown}"

    def to_json(self) -> dict[str, Any]:
        found = {"csv": str(self.csv), "n": self.n, "new": self.new, "bad": list(self.bad)}
        return found if self.unknown is None else found | {"unknown": self.unknown}


def predict_table(
    model: str | Path | nn.Module,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    at_least: float | None = None,
    progress: bool | Progress = False,
) -> PredictedTable:
    """Write a row for each image to the CSV file `out`, or continue that of an interrupted run.

    The columns are `image`, those of the task (`class` and `probability`; `classes` and a probability of each; the
    numbers), `unlike_training_images` (yes, no, or empty where these are unknown), and `error`. `images` are files and
    folders. `at_least` is as in `vitral.predict`, and adds the column `likeliest`. With `on_bad_image` "fail" a file
    that cannot be read ends the run, which can be continued with "skip".

    Raises `UsageError` if `out` is finished, or was begun with another model, or if there are no images.
    """
    progress, out = progress_for(progress), Path(out)
    check_on_bad_image(on_bad_image)
    opened = open_classifier(model, progress, code)
    chosen = abstention_of(opened, at_least, model_name(model), progress)
    files = files_of(images, progress.note)
    settings = settings_of(opened, images)
    # The weights do not show what was chosen on validation images after training.
    if (calibration := opened.record.calibration) is not None:
        settings |= {"calibration": json.dumps([calibration.temperature, opened.record.thresholds])}
    if chosen:
        settings |= {"threshold": repr(chosen.threshold)}
    with closing(UnfinishedTable(out, settings, columns_of(opened, chosen))) as table:
        new, known, bad = fill(table, opened, files, on_bad_image, progress, chosen)
        unknown = sum(row.get("likeliest") != row.get("class") for row in table.rows()) if chosen else None
    return PredictedTable(out, new + known, new, tuple(bad), tuple(progress.notes), unknown)


def fill(
    table: UnfinishedTable,
    model: Classifier,
    files: Sequence[Path],
    on_bad_image: str,
    progress: Progress,
    chosen: Abstention | None,
) -> tuple[int, int, list[str]]:
    """Write the rows that are missing: how many, how many there were, and the images that cannot be read."""
    done = {row[IMAGE] for row in table.rows()}
    left = [file for file in files if str(file) not in done]
    note_unknown(model.record, progress)
    for start in range(0, len(left), BATCH):
        progress.count("images", len(done) + start, len(done) + len(left))
        batch = left[start : start + BATCH]
        table.add(rows_of(model, batch, on_bad_image, progress, chosen, is_first=not start))
    progress.close()
    return len(left), len(done), table.finish()


def rows_of(
    model: Classifier,
    files: Sequence[Path],
    on_bad_image: str,
    progress: Progress,
    chosen: Abstention | None,
    is_first: bool,
) -> list[dict[str, str]]:
    """A row for each file."""
    loaded = load_batch(files, model.preprocessing, on_bad_image)
    read = {file: one for file, one in loaded.items() if isinstance(one, np.ndarray)}
    answers: dict[str, Prediction] = {}
    if read:
        pixels = np.stack(list(read.values()))
        if is_first:
            note_instability(model, pixels[:2], progress)
        sizes = [model.preprocessing.size] * len(read)
        _, found = predict_pixels(model, list(map(str, read)), pixels, sizes, progress, chosen)
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


def columns_of(model: Classifier, chosen: Abstention | None = None) -> list[str]:
    """The columns of the table. Raises `UsageError` for a class or number that is called like one of them."""
    record = model.record
    zeros, least = [[0.0] * len(model.classes)], chosen.threshold if chosen else None
    (blank,) = predictions([""], model.classes, zeros, record.task, record.thresholds, least=least)
    columns = [*blank.to_csv_row(), UNLIKE, ERROR]
    if clash := [name for name in (IMAGE, UNLIKE, ERROR) if columns.count(name) > 1 or name in model.classes]:
        raise UsageError(f"{clash[0]!r} is a column of the table, and a class or number of the model: rename that.")
    return columns
