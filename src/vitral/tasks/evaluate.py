"""Judge a trained model on a split of labelled data, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int
from torch import nn

from vitral.base.abstention import Answering, choose_abstention, judge_abstention
from vitral.base.answer import Figures
from vitral.base.answers.one_class import ClassFigures
from vitral.base.calibration import Calibration
from vitral.base.errors import ConfigError, DataError, UsageError
from vitral.base.record import Task, classes_of
from vitral.data import OnBadImage
from vitral.data.classes import match_classes
from vitral.data.copies import check_copies
from vitral.data.dataset import Dataset, Split
from vitral.data.division import DEFAULT, Division, earlier_division
from vitral.data.folder import ImageFolder
from vitral.data.spec import built_in_sets, find_data
from vitral.data.split_table import TABLE, splits_beside
from vitral.data.table_file import Report
from vitral.store.classifier import Classifier
from vitral.tasks.confusion_table import check_confusion_path, write_confusion
from vitral.tasks.inputs import model_name, open_model, read_data
from vitral.tasks.progress import Progress, progress_for
from vitral.tasks.seen_before import not_seen
from vitral.training.metrics import evaluate_split


@dataclass(frozen=True)
class EvaluationResult:
    """How good a model is on a split of `n` images.

    `figures` are those of the model's `task`: `base/answers/` has a class for each. `accuracy`, its 95 % confidence
    `interval` and `confusion` (images per true class in rows, predicted class in columns, in the order of `classes`)
    are those of one class of many; `loss` is the task's mean loss. `calibration` is what the model's record says of its
    probabilities, `answering` how a wanted accuracy works here, and `mislabels` the images whose label is likely wrong.
    """

    data: str
    split: str
    task: Task
    classes: tuple[str, ...]
    figures: Figures
    n: int
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None
    answering: Answering | None = None
    mislabels: tuple[dict[str, Any], ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def loss(self) -> float:
        return self.figures.loss

    @property
    def accuracy(self) -> float:
        return self.of_one_class.accuracy

    @property
    def interval(self) -> tuple[float, float]:
        return self.of_one_class.interval

    @property
    def confusion(self) -> Int[np.ndarray, "k k"]:
        return self.of_one_class.confusion

    @property
    def of_one_class(self) -> ClassFigures:
        """The figures of one class of many. Raises `UsageError` for another task."""
        if not isinstance(self.figures, ClassFigures):
            raise UsageError(f"A model for the task {self.task!r} has no accuracy. Its figures: {self.summary}.")
        return self.figures

    @property
    def summary(self) -> str:
        return self.figures.summary(self.classes)

    def to_json(self) -> dict[str, Any]:
        """All figures, by name."""
        own: dict[str, Any] = {"data": self.data, "split": self.split, "task": self.task, "classes": list(self.classes)}
        own |= self.figures.to_json(self.classes) | {"n": self.n, "notes": list(self.notes)}
        own |= {"remarks": list(self.remarks), "likely_mislabels": list(self.mislabels)}
        return own | ({"at_least": self.answering.to_json()} if self.answering else {})


def evaluate(
    model: str | Path | nn.Module,
    data: str | None = None,
    *,
    split: Literal["val", "test"] = "test",
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    at_least: float | None = None,
    csv: str | Path | None = None,
    progress: bool | Progress = False,
) -> EvaluationResult:
    """The figures of a model's task on a split of `data`, by default of the data that it was trained on.

    `model` is loaded, or a path or name as `vitral.load` takes it; `code` is where the user's own model is defined now.

    Of a folder, only images are judged that neither trained nor validated the model, by their content: the table of its
    run knows them, wherever they are now. A folder without splits that is named is judged whole.

    `at_least` is an accuracy: answers whose probability does not promise it, by the validation images of the model's
    run, are "unknown" (see `vitral.base.abstention`). `csv` is a new file for the confusion matrix.

    Raises `UsageError` for a model without classes or unknown data, `DataError` if the data has other classes or sizes
    than the model, or if the model has seen all of it.
    """
    progress = progress_for(progress)
    opened = open_model(model, progress, code)
    name = model_name(model)
    if not getattr(opened, "classes", ()):
        raise UsageError(
            f"{name} has no classes to evaluate: it returns features. Give it a head: vitral train --init."
        )
    provenance = getattr(opened, "provenance", {})
    spec = data or provenance.get("data")
    if spec is None:
        raise ConfigError(f"{name} does not record what it was trained on. Specify the data: --data.")
    task, source = opened.record.task, find_data(spec)
    if csv is not None:
        check_confusion_path(Path(csv), task)
    chosen = None if at_least is None else choose_abstention(opened.record.calibration, at_least, name, task)
    classes = classes_of(opened)
    division = division_of_run(model, name, source, data, provenance, progress.note)
    found = read_splits_for(source, opened, division, data is not None, progress, on_bad_image)
    things = "numbers" if task == "numbers" else "classes"
    if classes is None and len(found.classes) != len(opened.classes):
        raise DataError(f"{spec} has {len(found.classes)} {things}; the model predicts {len(opened.classes)}.")
    if classes is None:
        progress.note(
            f"  assumed: the model's {things} are those of {spec}, in their order, since the model does not name its "
            "own"
        )
    images = found.load(split)
    if isinstance(source, ImageFolder) and division.known:
        images = not_seen(found, images, split, division, name, progress.note)
    figures = evaluate_split(opened, images)
    if figures.note:
        progress.note(figures.note)
    if csv is not None:
        write_confusion(Path(csv), figures, found.classes)
    answering, mislabels, remarks = None, list[dict[str, Any]](), list[str]()
    calibration = opened.record.calibration
    if isinstance(figures, ClassFigures):
        answering = judge_abstention(chosen, figures.values, figures.labels) if chosen else None
        mislabels = mislabels_json(figures, images, found.classes)
        remarks.append(figures.calibration_text)
    if calibration is not None:
        remarks += calibration.notes
        if split == "val" and (data is None or division.known):
            remarks.append("These validation images chose them, so the figures that depend on them are too good.")
    return EvaluationResult(
        spec,
        split,
        task,
        tuple(found.classes),
        figures,
        len(images),
        tuple(progress.notes),
        calibration,
        answering,
        tuple(mislabels),
        tuple(remarks),
    )


def mislabels_json(figures: ClassFigures, images: Split, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The images whose label is likely wrong, the surest first, each by its file or its number."""
    return [
        {
            "image": images.files[one.index] if images.files else str(one.index),
            "label": classes[one.label],
            "suggested": classes[one.suggested],
            "label_probability": one.own,
            "suggested_probability": one.probability,
        }
        for one in figures.mislabels
    ]


def division_of_run(
    model: str | Path | nn.Module,
    name: str,
    source: Dataset | ImageFolder,
    data: str | None,
    provenance: Mapping[str, Any],
    report: Report,
) -> Division:
    """Which images the model's training had, by the table of its run; all others are left out unless `data` was named.

    Raises `DataError` for a model without that table if it is to be judged on the folder that it was trained on.
    """
    table = None if isinstance(model, nn.Module) else splits_beside(Path(model))
    if table is not None:
        before = earlier_division(table)
        return before if data is not None else replace(before, val=0.0, test=0.0, only_known=True)
    if data is None and isinstance(source, ImageFolder):
        raise DataError(
            f"{name} has no {TABLE}, so it is unknown which images of {source.path} it was trained on. Specify images "
            "that it has not seen: --data."
        )
    trained_on = provenance.get("data", "")
    if isinstance(source, ImageFolder) and trained_on and trained_on.partition(":")[0] not in built_in_sets():
        report(f"{name} has no {TABLE}: it is unknown whether it was trained on some of these images.")
    return DEFAULT


def read_splits_for(
    source: Dataset | ImageFolder,
    model: Classifier,
    division: Division,
    whole: bool,
    progress: Progress,
    on_bad_image: OnBadImage,
) -> Dataset:
    """The data in the model's classes; with `whole`, all images of a folder that has no splits."""
    task, preprocessing = model.record.task, model.preprocessing
    found = read_data(source, preprocessing, progress, division, on_bad_image, task, whole)
    if not whole and isinstance(source, ImageFolder) and model.provenance.get("duplicates") == "drop":
        found, _ = check_copies(found, "drop")
    return match_classes(found, classes_of(model), preprocessing.size, task)
