"""What a model answers for images: the probability of each class, or its numbers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn

from vitral.base.abstention import Abstention, check_has_unknown, choose_abstention
from vitral.base.answer import answer_of
from vitral.base.answers.segmentation import class_map
from vitral.base.calibration import Calibration
from vitral.base.errors import UsageError
from vitral.base.feature_statistics import ImageFeatures
from vitral.base.mask_values import IGNORED
from vitral.base.prediction import Prediction, predictions
from vitral.base.record import Task
from vitral.data import OnBadImage
from vitral.data.preprocess import normalise, restore_mask
from vitral.recording.stability import instability
from vitral.store.classifier import Classifier, answers, outputs
from vitral.store.image_features import patches_of, recording_head_inputs
from vitral.tasks.inputs import Image, model_name, note_unknown, open_model, read_sized, training_images_json
from vitral.tasks.progress import Progress, progress_for

DrawMask = Callable[[], UInt8[np.ndarray, "_ _"]]


@dataclass(frozen=True)
class PredictionResult(Sequence[Prediction]):
    """The predictions for some images, in their order: a sequence of `Prediction`.

    `values` has one row per image and one column per name in `classes`: by the model's `task` these are probabilities,
    numbers, or the shares of pixels that classes get. `numpy.asarray(result)` gives it as well. `training_images` says
    what is known of these, `calibration` what validation images say of the probabilities, and `abstention` below which
    probability an answer is "unknown".
    """

    classes: tuple[str, ...]
    values: Float[np.ndarray, "n k"]
    predictions: tuple[Prediction, ...]
    notes: tuple[str, ...] = ()
    task: Task = "one class"
    training_images: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    abstention: Abstention | None = None

    @property
    def probabilities(self) -> Float[np.ndarray, "n k"]:
        """The values of a model that has classes. Raises `UsageError` for numbers."""
        if self.task == "numbers":
            raise UsageError("Numbers have no probabilities. The predicted numbers are in `values`.")
        if self.task == "segmentation":
            raise UsageError("Masks have no probability per image. The class of each pixel is in `masks`.")
        return self.values

    @property
    def masks(self) -> tuple[UInt8[np.ndarray, "y x"], ...]:
        """The class of each pixel of each image, in the image's own size. Raises `UsageError` for another task."""
        if self.task != "segmentation":
            raise UsageError(f"A model for the task {self.task!r} predicts no masks.")
        return tuple(one.draw_mask() for one in self.predictions if one.draw_mask)

    def __len__(self) -> int:
        return len(self.predictions)

    def __getitem__(self, index: Any) -> Any:
        return self.predictions[index]

    def __array__(self, dtype: type | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype, copy=True if copy is None else copy)


def predict(
    model: str | Path | nn.Module,
    images: Image | Iterable[Image],
    *,
    code: str | None = None,
    on_bad_image: OnBadImage = "fail",
    at_least: float | None = None,
    progress: bool | Progress = False,
) -> PredictionResult:
    """The probability of each class for each image, or its numbers: `predict(model, "photo.jpg")[0].best(3)`.

    An image is a path, a folder of images, or an array as `load_image` gives it. `model` is loaded, or a path or name
    as `vitral.load` takes it; `code` is where the user's own model is defined now.

    `at_least` is an accuracy: answers whose probability does not promise it, by the validation images of the model's
    run, are "unknown" (see `vitral.base.abstention`).

    Raises `UsageError` for no images or a model without classes, `ImageError` for a file that is not an image,
    `ConfigError` for an accuracy that the validation images do not show.
    """
    progress = progress_for(progress)
    opened = open_classifier(model, progress, code)
    chosen = abstention_of(opened, at_least, model_name(model), progress)
    read = read_sized(images, opened.preprocessing, on_bad_image, progress)
    pixels = np.stack([pixels for _, pixels, _ in read])
    record = opened.record
    note_unknown(record, progress)
    rows, found = predict_pixels(
        opened, [str(path) for path, *_ in read], pixels, [size for *_, size in read], progress, chosen
    )
    note_instability(opened, pixels[:2], progress)
    if chosen:
        progress.note(f"unknown: {sum(one.is_unknown for one in found):,} of {len(found):,} images")
    return PredictionResult(
        tuple(opened.classes),
        rows,
        tuple(found),
        tuple(progress.notes),
        record.task,
        training_images_json(record),
        record.calibration,
        chosen,
    )


def abstention_of(model: Classifier, at_least: float | None, name: str, progress: Progress) -> Abstention | None:
    """The threshold that a wanted accuracy needs; how it was chosen is reported. None if none is wanted."""
    if at_least is None:
        return None
    chosen = choose_abstention(model.record.calibration, at_least, name, model.record.task)
    check_has_unknown(model.classes)
    progress.note(chosen.text())
    return chosen


def open_classifier(model: str | Path | nn.Module, progress: Progress, code: str | None) -> Classifier:
    """The model. Raises `UsageError` for one without classes."""
    opened = open_model(model, progress, code)
    if not getattr(opened, "classes", ()):
        raise UsageError(
            f"{model_name(model)} has no classes to predict: it returns features. To look inside: vitral explain."
        )
    return opened


def predict_pixels(
    model: Classifier,
    names: Sequence[str],
    pixels: UInt8[np.ndarray, "n y x 3"],
    sizes: Sequence[tuple[int, int]],
    progress: Progress,
    abstention: Abstention | None = None,
) -> tuple[Float[np.ndarray, "n k"], list[Prediction]]:
    """The values and predictions for images in the model's size; `sizes` are their own (height, width), for masks."""
    record, masks = model.record, list[DrawMask]()
    with recording_head_inputs(model) as inputs:
        if record.task == "segmentation":
            rows, masks = predict_masks(model, pixels, sizes, progress)
        else:
            rows = answers(model, pixels, progress.note)
    distances = None
    if (statistics := record.feature_statistics) is not None:
        patches = patches_of(normalise(torch.from_numpy(pixels), model.preprocessing))
        distances = statistics.distances(ImageFeatures(patches, inputs.array(len(pixels))))
    least = abstention.threshold if abstention else None
    found = predictions(names, model.classes, rows.tolist(), record.task, record.thresholds, distances, least)
    return rows, [replace(one, draw_mask=draw) for one, draw in zip(found, masks)] if masks else found


def note_instability(model: Classifier, pixels: UInt8[np.ndarray, "n y x 3"], progress: Progress) -> None:
    """Report a model whose answer changes from run to run, or with the other images of a batch."""
    images = normalise(torch.from_numpy(pixels), model.preprocessing).to(next(model.parameters()).device)
    if unstable := str(instability(model, images)):
        progress.note(f"warning: {unstable}")


def predict_masks(
    model: Classifier, pixels: UInt8[np.ndarray, "n y x 3"], sizes: Sequence[tuple[int, int]], progress: Progress
) -> tuple[Float[np.ndarray, "n k"], list[DrawMask]]:
    """The share of pixels that each class gets, and what draws each mask in its image's own (height, width)."""
    rows, masks, unseen = list[np.ndarray](), list[DrawMask](), list[float]()
    answer = answer_of(model)
    for output in outputs(model, pixels, progress.note, 1):  # one image at a time: a mask may be large
        rows.append(answer.values(output.float()).cpu().numpy())
        # Kept in the model's size: masks of a folder of large photographs would not fit into memory.
        masks.append(partial(restore_mask, class_map(output)[0], sizes[len(masks)], model.preprocessing))
        unseen.append(float((masks[-1]() == IGNORED).mean()))
    if cut := [share for share in unseen if share]:
        progress.note(
            f"The model sees only the centre of {len(cut)} of {len(masks)} images: {np.mean(cut):.1%} of their pixels "
            f"have no class ({IGNORED} in the mask). Shares are of the pixels that it sees."
        )
    return np.concatenate(rows), masks
