"""How far the answers of one way of running a model are from those of another.

Axes:  n images   k outputs
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vitral.base.record import ModelRecord
from vitral.exporting.graphs import read_logits
from vitral.exporting.tolerance import difference, same_answers

NEAR = 0.02  # probabilities: two classes that are closer may change places by rounding
ENOUGH = 0.99  # share of answers that must be the same, but for near ones, to recommend a way


@dataclass(frozen=True)
class AnswersAgree:
    """Of `images`, `same` have the same answer, or one whose probability was within 0.02 (`near`) of it.

    An answer is the first class, or which of several classes apply, or the class of each pixel (then these are sums of
    shares). Numbers and features are the same within a tenth of their standard deviation over the images. `largest` is
    the largest difference of a probability, of a number over its standard deviation, or the largest share of pixels.
    """

    images: int
    same: float
    near: float
    largest: float

    @property
    def is_enough(self) -> bool:
        return self.near >= ENOUGH * self.images

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def answers_agree(
    own: Float[np.ndarray, "n k ..."], found: Float[np.ndarray, "n k ..."], record: ModelRecord
) -> AnswersAgree:
    """Compare logits, numbers or features that two ways gave for the same images."""
    task = record.task if record.classes else "numbers"
    temperature = record.calibration.temperature if record.calibration else None
    one, other = (read_logits(torch.from_numpy(logits), task, temperature).numpy() for logits in (own, found))
    scale = one.std(axis=0) if task == "numbers" else np.ones(1)
    apart = difference(one, other, task, scale)
    same, near = (same_answers(one, own, other, record, scale, near) for near in (0.0, NEAR))
    if task == "numbers":
        same = near = (apart <= 0.1).reshape(len(own), -1).mean(axis=1)
    return AnswersAgree(len(own), float(same.sum()), float(near.sum()), float(apart.max()))
