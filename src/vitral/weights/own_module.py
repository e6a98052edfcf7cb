"""The reader's own module, `file.py:Name`, loaded as its constructor makes it."""

from contextlib import suppress
from typing import Any

import torch
from torch import nn

from vitral.base.errors import ConfigError, UsageError
from vitral.base.output import AmbiguousOutput, find_scores
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, Task, attach_record, number_classes
from vitral.nn.patch import Size, pair
from vitral.recording.forward import forward, run_model
from vitral.store.classifier import Classifier
from vitral.store.code import from_code

UNTRAINED = "{name} is used as constructed; it is untrained unless its constructor loads weights."


def load_own_module(name: str, num_classes: int = 1000, img_size: Size = 224) -> Classifier:
    """The model with its own `preprocessing` and `class_names`, where it has them.

    `num_classes` and `img_size` are passed to its constructor if that takes them. An attribute `origin` of the model, a
    sentence on where its weights come from, becomes the record's note; `task = "segmentation"` says that it returns
    logits (B, K, H, W). Raises what `from_code` raises.
    """
    model: Any = from_code(name, num_classes, pair(img_size))
    note = getattr(model, "origin", UNTRAINED.format(name=name))
    size = pair(getattr(model, "img_size", img_size))
    preprocessing = getattr(model, "preprocessing", Preprocessing(size=size))
    task: Task = "segmentation" if getattr(model, "task", None) == "segmentation" else "one class"
    if task == "segmentation":
        classes = class_names(model, count_channels(model.eval(), preprocessing))
    else:
        classes = class_names(model, count_classes(model.eval(), preprocessing, num_classes))
    provenance = {"source": name, "assumed": [note]}
    return attach_record(model, ModelRecord(classes, preprocessing, task, provenance=provenance, notes=(note,)))


@torch.no_grad()
def count_channels(model: nn.Module, preprocessing: Preprocessing) -> int:
    """How many logits a segmentation model returns for each pixel of a black image.

    Raises `ConfigError` if it returns no logits (B, K, H, W) of the image's size, and what `forward` raises.
    """
    device = next(model.parameters()).device
    image = torch.zeros(1, len(preprocessing.mean), *preprocessing.size, device=device)
    logits = forward(model, image).tensor
    if logits.ndim != 4 or logits.shape[2:] != image.shape[2:]:
        raise ConfigError(
            f"{type(model).__name__} states task = 'segmentation', so it must return logits (B, classes, height, "
            f"width); for an image of {preprocessing.size[0]} x {preprocessing.size[1]} it returned "
            f"{tuple(logits.shape)}."
        )
    return logits.shape[1]


@torch.no_grad()
def count_classes(model: nn.Module, preprocessing: Preprocessing, num_classes: int | None = None) -> int:
    """How many classes the model scores for a black image; 0 if its output is not one score per class.

    Of several parts of an output one with `num_classes` scores is preferred, for which the model may have been built.
    Raises `ShapeError` if it does not take images that are prepared so, `AmbiguousOutput` if its output has several
    parts that may be the scores.
    """
    device = next(model.parameters()).device
    image = torch.zeros(1, len(preprocessing.mean), *preprocessing.size, device=device)
    result = run_model(model, image)
    try:
        return find_classes(model, result, num_classes)
    except AmbiguousOutput:
        raise
    except UsageError:
        return 0


def find_classes(model: nn.Module, result: Any, num_classes: int | None) -> int:
    """The number of scores in what the model returned for one image. Raises what `find_scores` raises."""
    with suppress(UsageError):
        return find_scores(model, result, 1, num_classes).tensor.shape[1]
    return find_scores(model, result, 1).tensor.shape[1]


def class_names(model: nn.Module, count: int) -> tuple[str, ...]:
    """The model's own `class_names`, or numbers. Raises `ConfigError` if they are not one text per class."""
    own: Any = getattr(model, "class_names", None)
    if own is None:
        return number_classes(count)
    if not isinstance(own, list | tuple) or len(own) != count or not all(isinstance(name, str) for name in own):
        raise ConfigError(f"The model's `class_names` must be {count} strings, one per class; found {own!r}.")
    return tuple(own)
