"""Judge a trained model on a split of labelled data, class by class."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int
from torch import nn

from vitral.base.answer import Figures
from vitral.base.answers.one_class import ClassFigures
from vitral.base.errors import ConfigError, DataError, ImageError, UsageError
from vitral.base.record import Task, classes_of
from vitral.data import OnBadImage
from vitral.data.classes import match_classes
from vitral.data.copies import check_copies
from vitral.data.dataset import Dataset
from vitral.data.folder import ImageFolder, folder
from vitral.data.spec import find_data
from vitral.data.table_file import Report
from vitral.store.classifier import Classifier
from vitral.tasks.inputs import model_name, open_model, read_data
from vitral.tasks.progress import Progress, progress_for
from vitral.training.checkpoint import fingerprint
from vitral.training.metrics import evaluate_split


@dataclass(frozen=True)
class EvaluationResult:
    """How good a model is on a split of `n` images.

    `figures` are those of the model's `task`: `base/answers/` has a class for each. `accuracy`, its 95 % confidence
    `interval` and `confusion` (images per true class in rows, predicted class in columns, in the order of `classes`)
    are those of one class of many; `loss` is the task's mean loss.
    """

    data: str
    split: str
    task: Task
    classes: tuple[str, ...]
    figures: Figures
    n: int
    notes: tuple[str, ...] = ()

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
        own = {"data": self.data, "split": self.split, "task": self.task, "classes": list(self.classes)}
        return own | self.figures.to_json(self.classes) | {"n": self.n, "notes": list(self.notes)}


def evaluate(
    model: str | Path | nn.Module,
    data: str | None = None,
    *,
    split: Literal["val", "test"] = "test",
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    progress: bool | Progress = False,
) -> EvaluationResult:
    """The figures of a model's task on a split of `data`, by default of the data that it was trained on.

    `model` is loaded, or a path or name as `vitral.load` takes it; `code` is where the user's own model is defined now.

    Raises `UsageError` for a model without classes or unknown data, `DataError` if the data has other classes or sizes
    than the model, or if the images that it was trained on have changed.
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
    trained_on = provenance.get("data_sha256")
    classes = classes_of(opened)
    if data is None:
        found = divided(source, opened, progress.note, on_bad_image)
    else:
        found = read_given(source, opened, progress, on_bad_image)
    things = "numbers" if task == "numbers" else "classes"
    if classes is None and len(found.classes) != len(opened.classes):
        raise DataError(f"{spec} has {len(found.classes)} {things}; the model predicts {len(opened.classes)}.")
    if classes is None:
        progress.note(
            f"  assumed: the model's {things} are those of {spec}, in their order, since the model does not name its "
            "own"
        )
    if (
        data is None
        and isinstance(source, ImageFolder)
        and trained_on
        and trained_on != fingerprint(found.train, found.val)
    ):
        raise DataError(
            f"The images in {spec} have changed since the model was trained, so the {split} split may now hold images "
            "that it was trained on. Restore them, or specify images that it has not seen: --data."
        )
    images = found.load(split)
    figures = evaluate_split(opened, images)
    if figures.note:
        progress.note(figures.note)
    return EvaluationResult(spec, split, task, tuple(found.classes), figures, len(images), tuple(progress.notes))


def divided(source: Dataset | ImageFolder, model: Classifier, report: Report, on_bad_image: OnBadImage) -> Dataset:
    """The data with the splits that the model's training had, if it was trained on them."""
    classes, preprocessing, task = classes_of(model), model.preprocessing, model.record.task
    if isinstance(source, ImageFolder):
        source = folder(source, preprocessing, model.provenance.get("seed", 0), on_bad_image, report, task)
        if model.provenance.get("duplicates") == "drop":
            source, _ = check_copies(source, "drop")
    return match_classes(source, classes, preprocessing.size, task)


def read_given(
    source: Dataset | ImageFolder, model: Classifier, progress: Progress, on_bad_image: OnBadImage
) -> Dataset:
    """Data that the user named, to judge a model on: of a folder without splits all images.

    Unless they are those that the model was trained on, under whatever name: then as they were divided for training.
    """
    trained_on = model.provenance.get("data_sha256")
    if isinstance(source, Dataset) or not trained_on:
        return whole(source, model, progress, on_bad_image)
    notes: list[str] = []
    with suppress(DataError, ImageError):  # too few images to be divided, or classes of other data
        found = divided(source, model, notes.append, on_bad_image)
        if fingerprint(found.train, found.val) == trained_on:
            for note in notes:
                progress.note(note)
            return found
    if Path(model.provenance.get("data", "")).resolve() == source.path.resolve():
        raise DataError(
            f"The images in {source.path}, on which the model was trained, have changed since, and some trained it. "
            "Put images that it has not seen into a folder of their own."
        )
    return whole(source, model, progress, on_bad_image)


def whole(source: Dataset | ImageFolder, model: Classifier, progress: Progress, on_bad_image: OnBadImage) -> Dataset:
    """A built-in data set as it is, and a folder without splits whole."""
    task, preprocessing = model.record.task, model.preprocessing
    found = read_data(source, preprocessing, progress, 0, on_bad_image, task, whole=True)
    return match_classes(found, classes_of(model), preprocessing.size, task)
