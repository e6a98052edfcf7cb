"""`Classifier`: the type of a module that a record is attached to, and the class probabilities that it gives."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn

from vitral.base.modes import evaluating
from vitral.base.output import find_scores
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


def probabilities(
    model: Classifier, pixels: UInt8[np.ndarray, "n y x 3"], note: Callable[[str], None] = lambda sentence: None
) -> Float[np.ndarray, "n k"]:
    """Class probabilities: one row per image and one column per class, of images that have the model's size already.

    `note` takes the sentence on which part of the model's output holds its scores, where there is a choice. Raises
    `UsageError` if none does.
    """
    device = next(model.parameters()).device
    rows, notes = [], dict[str, None]()
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(pixels), AT_ONCE):
            images = normalise(torch.from_numpy(pixels[start : start + AT_ONCE]).to(device), model.preprocessing)
            output = find_scores(model, model(images), len(images))
            rows.append(output.tensor.float().softmax(dim=1).cpu())
            notes.setdefault(output.note, None)
    for sentence in filter(None, notes):
        note(sentence)
    return torch.cat(rows).numpy()
