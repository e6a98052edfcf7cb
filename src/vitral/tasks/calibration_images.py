"""Images that calibrate an int8 model, and others on which it is judged: of a folder, or of the model's own training.

Axes:  n m images   y x pixels
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from torch import nn

from vitral.base.errors import DataError, UsageError
from vitral.base.record import classes_of
from vitral.data.class_names import list_names
from vitral.data.classes import match_classes
from vitral.data.dataset import Dataset
from vitral.data.image import load_image
from vitral.data.mask_folder import photographs_in
from vitral.data.preprocess import crop_and_resize
from vitral.data.spec import find_data
from vitral.data.split_table import read_splits, splits_beside
from vitral.data.table_file import Report
from vitral.store.classifier import Classifier

FEWEST = 32  # images that calibrate, and as many that judge
CALIBRATING, JUDGING = 128, 2000  # at most


@dataclass(frozen=True)
class CalibrationImages:
    """Images in the model's size: those that calibrate, and those that judge, with their classes where known."""

    calibrating: UInt8[np.ndarray, "n y x 3"]
    judging: UInt8[np.ndarray, "m y x 3"]
    labels: Int[np.ndarray, " m"] | None
    source: str

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "calibrating": len(self.calibrating), "judging": len(self.judging)}


def calibration_images(
    model: Classifier, where: str | Path | nn.Module, calibrate: str | Path | None, report: Report
) -> CalibrationImages:
    """Drawn from the folder `calibrate`, or from the data that the model was trained on.

    Of a run, its training images calibrate and its validation images judge. Raises `UsageError` if neither is known,
    `DataError` for too few images and for class folders of other classes than the model's.
    """
    if calibrate is not None:
        return of_folder(model, Path(calibrate), report)
    spec = model.provenance.get("data") if getattr(model, "provenance", None) else None
    if not spec:
        raise UsageError(
            "int8 is calibrated on images, and this model does not record what it was trained on. Specify a folder of "
            "images like those that it will see: --calibrate DIR."
        )
    source = find_data(spec)
    if isinstance(source, Dataset):
        return of_data_set(model, source, spec)
    table = None if isinstance(where, nn.Module) else splits_beside(Path(where))
    if table is None:
        raise UsageError(
            f"Which images of {spec} trained the model is not known: it has no splits.csv beside it. Specify a folder "
            "of images: --calibrate DIR."
        )
    rows = [row for row in read_splits(table) if (source.path / row.path).is_file()]
    parts = [[source.path / row.path for row in rows if row.split == split] for split in ("train", "val")]
    return of_files(model, source.path, parts[0], parts[1], f"the training images of {spec}")


def of_folder(model: Classifier, root: Path, report: Report) -> CalibrationImages:
    """Half of the images of a folder calibrate, at most 128, and the others judge."""
    if not root.is_dir():
        raise UsageError(f"There is no folder {root}. Specify a folder of images: --calibrate DIR.")
    files = photographs_in(root, report)
    if not files:
        raise UsageError(f"There are no images in {root}.")
    check_classes(model, root, files)
    drawn = [files[index] for index in np.random.default_rng(0).permutation(len(files))]
    first = min(CALIBRATING, len(drawn) // 2)
    return of_files(model, root, drawn[:first], drawn[first:], str(root))


def check_classes(model: Classifier, root: Path, files: list[Path]) -> None:
    """Raise `DataError` for images in folders that are not those of the model's classes."""
    if model.record.task != "one class" or any(file.parent == root for file in files):
        return
    strange = {file.parent.name for file in files if class_of(model, root, file) is None}
    if strange:
        raise DataError(
            f"{root} has images in {list_names(sorted(strange))}; the model has the classes "
            f"{list_names(model.record.classes)}. Calibrate on images of these. Images whose classes are unknown go "
            "into one folder without others."
        )


def class_of(model: Classifier, root: Path, file: Path) -> int | None:
    """The class that a file's folder is named after; None if that is none of the model's."""
    folders = reversed(file.relative_to(root).parts[:-1])
    classes = model.record.classes
    return next((classes.index(name) for name in folders if name in classes), None)


def of_files(
    model: Classifier, root: Path, calibrating: list[Path], judging: list[Path], source: str
) -> CalibrationImages:
    check_number(len(calibrating), len(judging), source)
    generator = np.random.default_rng(0)
    first, second = (
        [files[index] for index in generator.permutation(len(files))[:most]]
        for files, most in ((calibrating, CALIBRATING), (judging, JUDGING))
    )
    found = [class_of(model, root, file) for file in second]
    known = model.record.task == "one class" and None not in found
    labels = np.array(found, dtype=np.int64) if known else None
    return CalibrationImages(prepared(model, first), prepared(model, second), labels, source)


def prepared(model: Classifier, files: list[Path]) -> UInt8[np.ndarray, "_ y x 3"]:
    return np.stack([crop_and_resize(load_image(file), model.preprocessing) for file in files])


def of_data_set(model: Classifier, data: Dataset, spec: str) -> CalibrationImages:
    """The training images of a built-in set calibrate, and its validation images judge."""
    data = match_classes(data, classes_of(model), model.preprocessing.size, model.record.task)
    train, val = data.load("train"), data.load("val")
    check_number(len(train), len(val), spec)
    labels = val.labels[:JUDGING] if data.task == "one class" else None
    # A split is in random order: its first images are drawn from it.
    return CalibrationImages(
        np.array(train.pixels[:CALIBRATING]), np.array(val.pixels[:JUDGING]), labels, f"the training images of {spec}"
    )


def check_number(calibrating: int, judging: int, source: str) -> None:
    """Raise `DataError` for fewer images than a range of values can be measured on."""
    if calibrating < FEWEST or judging < FEWEST:
        raise DataError(
            f"{source} gives {calibrating:,} images that calibrate int8 and {judging:,} others that judge it; each "
            f"takes at least {FEWEST}. Specify a folder with at least {2 * FEWEST} images: --calibrate DIR."
        )
