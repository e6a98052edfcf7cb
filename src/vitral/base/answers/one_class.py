"""One class of many: logits of exclusive classes, whose softmax gives probabilities that sum to 1.

Axes:  b n images   k classes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from vitral.base.answer import Answered, Loss, RowTally
from vitral.base.intervals import interval

if TYPE_CHECKING:
    from torch import Tensor

    from vitral.base.record import ModelRecord


@dataclass(frozen=True)
class ClassFigures:
    """The figures of exclusive classes: `values` are probabilities, `labels` indices of classes."""

    values: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, " n"]
    note: str = ""

    @property
    def answers(self) -> Int[np.ndarray, " n"]:
        return self.values.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        return float((self.answers == self.labels).mean())

    @property
    def value(self) -> float:
        return self.accuracy

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        chosen = self.values[np.arange(len(self.labels)), self.labels]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    @property
    def score(self) -> tuple[float, float]:
        """The highest accuracy, and among equals the lowest loss."""
        return self.accuracy, -self.loss

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy."""
        return interval(self.accuracy, len(self.labels))

    @property
    def confusion(self) -> Int[np.ndarray, "k k"]:
        """Number of images per true class (row) and predicted class (column)."""
        count = self.values.shape[1]
        return np.bincount(self.labels * count + self.answers, minlength=count * count).reshape(count, count)

    def headline(self, names: Sequence[str]) -> str:
        return f"{self.accuracy:.1%} right"

    def summary(self, names: Sequence[str]) -> str:
        low, high = self.interval
        return f"accuracy {self.accuracy:.1%} (95% interval {low:.1%} to {high:.1%}), loss {self.loss:.3f}"

    def baseline(self, names: Sequence[str]) -> str:
        counts = np.bincount(self.labels, minlength=len(names))
        most = names[int(counts.argmax())]
        return (
            f"always {most}, the most frequent class of these images: {counts.max() / counts.sum():.1%}; chance: "
            f"{1 / len(names):.1%}"
        )

    def lines(self, names: Sequence[str]) -> list[str]:
        found = []
        for label, name in enumerate(names):
            total, right = int(self.confusion[label].sum()), int(self.confusion[label, label])
            wrong = self.confusion[label].copy()
            wrong[label] = 0
            worst = f"   most often confused with {names[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
            found.append(f"{name:<16} {right:>5} of {total:<5} {right / total if total else 0:6.1%}{worst}")
        return found

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        counts = np.bincount(self.labels, minlength=len(names))
        return {
            "accuracy": self.accuracy,
            "interval": self.interval,
            "loss": self.loss,
            "confusion": self.confusion.tolist(),
            "majority": {"class": names[int(counts.argmax())], "accuracy": float(counts.max() / counts.sum())},
        }


class OneClass:
    """See `vitral.base.answer.Answer`."""

    task: Literal["one class"] = "one class"
    measure = "accuracy"
    unit = "logits"
    per_output = "class"

    def values(self, output: "Tensor") -> "Tensor":
        return output.softmax(dim=1)

    def loss(
        self,
        label_smoothing: float = 0.0,
        targets: np.ndarray | None = None,
        balanced: bool = False,
        dice: float = 0.0,
    ) -> Loss:
        import torch.nn.functional as F

        return partial(F.cross_entropy, label_smoothing=label_smoothing)

    def correct(self, output: "Tensor", targets: "Tensor") -> int | None:
        return int((output.argmax(dim=1) == targets).sum())

    def tally(self, record: "ModelRecord") -> RowTally:
        return RowTally(self, record.thresholds)

    def judge(
        self, values: Float[np.ndarray, "n k"], labels: np.ndarray, thresholds: Sequence[float] | None, note: str
    ) -> ClassFigures:
        return ClassFigures(values, labels, note)

    def groups(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        return {name: np.flatnonzero(labels == label) for label, name in enumerate(names)}

    def describe(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        return {"classes": {name: len(own) for name, own in self.groups(labels, names).items()}}

    def target(self, output: "Tensor") -> "Tensor":
        return output.argmax(dim=1)

    def score(self, output: "Tensor") -> Float[np.ndarray, "b k"]:
        found: np.ndarray = self.values(output.double()).cpu().numpy()
        return found

    def score_name(self, name: str) -> str:
        return f"the probability of {name}"

    def evidence(self, name: str) -> str:
        return f"the patches that {self.score_name(name)} depends on"

    def show_score(self, value: float) -> str:
        return f"{value:.1%}"

    def least(self, scores: np.ndarray) -> float:
        return 0.01

    def rounding(self, value: float) -> float:
        return 1e-6

    def text(self, prediction: Answered, top: int | None) -> str:
        return ", ".join(f"{name} {chance:.1%}" for name, chance in prediction.best(top))

    def short(self, prediction: Answered) -> str:
        (name, probability), *_ = prediction.best(1)
        return f"{name} ({probability:.0%})"

    def to_json(self, prediction: Answered, top: int | None) -> dict[str, Any]:
        return {"classes": dict(prediction.best(top))}

    def to_csv_row(self, prediction: Answered) -> dict[str, str | float]:
        ((name, probability),) = prediction.best(1)
        return {"class": name, "probability": probability}


one_class = OneClass()
