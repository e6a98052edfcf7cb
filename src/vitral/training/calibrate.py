"""Choose a temperature or thresholds on the validation images, once the weights of a model are final.

Axes:  n images   k classes
"""

from dataclasses import dataclass

import torch

from vitral.base.abstention import levels_of
from vitral.base.answers.one_class import OneClass
from vitral.base.answers.several_classes import THRESHOLD
from vitral.base.calibration import Calibration
from vitral.base.f1_thresholds import FEWEST_POSITIVE, f1_thresholds
from vitral.base.plural import one_or_many
from vitral.base.temperature import fit_temperature
from vitral.data.class_names import list_names, missing_classes
from vitral.data.dataset import Split
from vitral.store.classifier import Classifier, outputs

AT_ONCE = 250


@dataclass(frozen=True)
class Chosen:
    """What is stored in the model's record; `thresholds` are those of several classes."""

    calibration: Calibration
    thresholds: tuple[float, ...] | None = None


def calibrate(model: Classifier, validation: Split) -> Chosen | None:
    """The temperature, or the thresholds of several classes, that suit the validation images.

    The model must not be calibrated yet. None for numbers and segmentation.
    """
    task = model.record.task
    if task not in ("one class", "several classes"):
        return None
    logits = torch.cat([output.double().cpu() for output in outputs(model, validation.pixels, lambda _: None, AT_ONCE)])
    if task == "several classes":
        return choose_thresholds(model, logits, validation)
    labels, n = validation.labels, len(validation)
    fitted = fit_temperature(logits.numpy(), labels)
    if isinstance(fitted, str):
        temperature, note = None, f"Probabilities are the model's own, without a temperature: {fitted}."
    else:
        temperature, note = fitted, f"Temperature {fitted:.3g}, fitted on {n:,} validation images, divides the logits."
    absent = missing_classes(labels, model.classes) if temperature is not None else []
    notes = (note, f"The temperature was fitted without images of {list_names(absent)}.") if absent else (note,)
    values = OneClass(temperature).values(logits).numpy()
    return Chosen(Calibration(n, temperature, levels_of(values, labels), notes))


def choose_thresholds(model: Classifier, logits: torch.Tensor, validation: Split) -> Chosen:
    """The threshold of each of several classes that maximises F1 on the validation images."""
    n = len(validation)
    thresholds, kept = f1_thresholds(logits.sigmoid().numpy(), validation.labels, THRESHOLD)
    notes = []
    if len(kept) < len(model.classes):
        notes.append(f"Thresholds were chosen for the highest F1 on {one_or_many(n, 'validation image')}.")
    if kept:
        names = list_names([model.classes[index] for index in kept])
        notes.append(
            f"The threshold stays {THRESHOLD:.0%} for {names}: fewer than {FEWEST_POSITIVE} validation images have the "
            f"class, or fewer than {FEWEST_POSITIVE} lack it."
        )
    return Chosen(Calibration(n, notes=tuple(notes)), thresholds)
