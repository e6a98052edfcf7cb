"""`Classifier`: the type of a module that a record is attached to, and what it answers for images."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.answer import answer_of
from vitral.base.modes import evaluating
from vitral.base.output import find_answer, model_class
from vitral.base.output_scale import scale_of
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord
from vitral.data.preprocess import normalise

AT_ONCE = 64  # images per forward pass

if TYPE_CHECKING:

    class Classifier(nn.Module):
        """A module with its record; the other attributes repeat what the record says."""

        record: ModelRecord
        classes: tuple[str, ...]
        preprocessing: Preprocessing
        provenance: dict[str, Any]
        code: dict[str, str]  # of the reader's own module only: file, name and hash
else:
    Classifier = nn.Module  # any module can have a record: its class stays what it is


def answers(
    model: Classifier,
    pixels: UInt8[np.ndarray, "n y x 3"],
    note: Callable[[str], None] = lambda sentence: None,
    at_once: int = AT_ONCE,
) -> Float[np.ndarray, "n k"]:
    """What the model answers: one row per image, of images that have the model's size already.

    By its task these are probabilities, one column per class, or numbers, one column per number, or the shares of
    pixels that the classes get; in eval mode and float32, whatever mode the model is in. `note` takes the sentence on
    which part of the model's output holds its scores, where there is a choice. Raises `UsageError` if none does.
    """
    answer = answer_of(model)
    rows = [answer.values(output.float()).cpu() for output in outputs(model, pixels, note, at_once)]
    return torch.cat(rows).numpy()


def warning_of_scale(model: nn.Module, outputs: Tensor) -> str:
    """A sentence on a classifier that returns probabilities, which Vitral takes for logits; empty for others."""
    task = answer_of(model).task
    if task not in ("one class", "several classes"):
        return ""
    return scale_of(outputs).warning(model_class(model), several=task == "several classes")


def outputs(
    model: Classifier, pixels: UInt8[np.ndarray, "n y x 3"], note: Callable[[str], None], at_once: int = AT_ONCE
) -> Iterator[Tensor]:
    """What the model returns for each batch of images: logits or numbers (b, k); for segmentation (b, k, y, x)."""
    device, notes = next(model.parameters()).device, dict[str, None]()
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(pixels), at_once):
            images = normalise(torch.from_numpy(pixels[start : start + at_once]).to(device), model.preprocessing)
            output = find_answer(model, model(images), images)
            notes.setdefault(output.note, None)
            notes.setdefault(warning_of_scale(model, output.tensor), None)
            yield output.tensor
    for sentence in filter(None, notes):
        note(sentence)
