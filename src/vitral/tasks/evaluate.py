"""Judge a trained model on a split of labelled data, class by class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int
from torch import nn

from vitral.base.errors import ConfigError, DataError, UsageError
from vitral.base.record import classes_of
from vitral.data import OnBadImage
from vitral.data.classes import match_classes
from vitral.data.spec import find_data
from vitral.tasks.inputs import model_name, open_model, read_data
from vitral.tasks.progress import Progress, progress_for
from vitral.training.checkpoint import fingerprint
from vitral.training.metrics import interval, predict_split


@dataclass(frozen=True)
class EvaluationResult:
    """How good a model is on a split of `n` images.

    `interval` is the 95 % confidence interval of `accuracy`; `loss` is the mean cross-entropy in nats; `confusion`
    counts images per true class (row) and predicted class (column), in the order of `classes`.
    """

    data: str
    split: str
    classes: tuple[str, ...]
    accuracy: float
    interval: tuple[float, float]
    loss: float
    n: int
    confusion: Int[np.ndarray, "k k"]
    notes: tuple[str, ...] = ()


def evaluate(
    model: str | Path | nn.Module,
    data: str | None = None,
    *,
    split: Literal["val", "test"] = "test",
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    progress: bool | Progress = False,
) -> EvaluationResult:
    """Accuracy, loss and confusion of a model on a split of `data`, by default of the data that it was trained on.

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
    found = read_data(find_data(spec), opened.preprocessing, progress, provenance.get("seed", 0), on_bad_image)
    classes = classes_of(opened)
    found = match_classes(found, classes, opened.preprocessing.size)
    if classes is None and len(found.classes) != len(opened.classes):
        raise DataError(f"{spec} has {len(found.classes)} classes; the model predicts {len(opened.classes)}.")
    if classes is None:
        progress.note(
            f"  assumed: the model's classes are those of {spec}, in their order, since the model does not name its own"
        )
    trained_on = provenance.get("data_sha256")
    if data is None and Path(spec).is_dir() and trained_on and trained_on != fingerprint(found.train, found.val):
        raise DataError(
            f"The images in {spec} have changed since the model was trained, so the {split} split may now hold images "
            "that it was trained on. Restore them, or specify images that it has not seen: --data."
        )
    images = found.load(split)
    answers = predict_split(opened, images)
    if answers.note:
        progress.note(answers.note)
    return EvaluationResult(
        spec,
        split,
        tuple(found.classes),
        answers.accuracy,
        interval(answers.accuracy, len(images)),
        answers.loss,
        len(images),
        answers.confusion,
        tuple(progress.notes),
    )
