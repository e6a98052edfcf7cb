"""The accuracy, loss and confusion of a classifier on a split, with confidence intervals.

Axes:  n images   k classes
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from vitral.base.modes import evaluating
from vitral.base.output import find_scores
from vitral.data.dataset import Split
from vitral.data.preprocess import normalise
from vitral.store.classifier import Classifier

AT_ONCE = 250


@dataclass(frozen=True)
class Predictions:
    """Class probabilities for a split, and the true labels; `note` says in which part of its output they were."""

    probabilities: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, " n"]
    note: str = ""

    @property
    def answers(self) -> Int[np.ndarray, " n"]:
        return self.probabilities.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        return float((self.answers == self.labels).mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        chosen = self.probabilities[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    @property
    def score(self) -> tuple[float, float]:
        """What the best model is chosen by: the highest accuracy, and among equals the lowest loss."""
        return self.accuracy, -self.loss

    @property
    def confusion(self) -> Int[np.ndarray, "k k"]:
        """Number of images per true class (row) and predicted class (column)."""
        count = self.probabilities.shape[1]
        return np.bincount(self.labels * count + self.answers, minlength=count * count).reshape(count, count)


def interval(accuracy: float, n: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion (Wilson 1927)."""
    z = 1.959964
    centre = (accuracy + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def predict_split(model: Classifier, split: Split, device: str = "cpu") -> Predictions:
    """Run the model on a split, in eval mode and float32; its own mode is restored.

    Raises `UsageError` if what it returns does not hold one score per class.
    """
    pixels, parts, note = torch.from_numpy(split.pixels), [], ""
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(split), AT_ONCE):
            images = normalise(pixels[start : start + AT_ONCE].to(device), model.preprocessing)
            output = find_scores(model, model(images), len(images))
            parts.append(output.tensor.float().softmax(dim=1).cpu())
            note = note or output.note
    return Predictions(torch.cat(parts).numpy(), split.labels, note)
