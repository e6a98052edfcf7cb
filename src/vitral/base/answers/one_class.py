"""One class of many: logits of exclusive classes, whose softmax gives probabilities that sum to 1.

Axes:  b n images   k classes
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from vitral.base.answer import Answered, Loss, RowTally
from vitral.base.calibration import Reliability, reliability, without_temperature
from vitral.base.class_weights import balanced_weights
from vitral.base.intervals import finite_or_none, interval, interval_of_mean
from vitral.base.likely_mislabels import LikelyMislabel, likely_mislabels

if TYPE_CHECKING:
    from torch import Tensor

    from vitral.base.record import ModelRecord


@dataclass(frozen=True)
class ClassFigures:
    """The figures of exclusive classes: `values` are probabilities, `labels` indices of classes.

    `temperature` is the one that the logits were divided by; None if they were not.
    """

    values: Float[np.ndarray, "n k"]
    labels: Int[np.ndarray, " n"]
    note: str = ""
    temperature: float | None = None

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

    def value_on(self, images: Int[np.ndarray, " m"]) -> float:
        return float((self.answers[images] == self.labels[images]).mean())

    @cached_property
    def confusion(self) -> Int[np.ndarray, "k k"]:
        """Number of images per true class (row) and predicted class (column)."""
        return confusion_of(self.labels, self.answers, self.values.shape[1])

    @property
    def recall(self) -> Float[np.ndarray, " k"]:
        """The share of each class's images that are predicted as it; NaN for a class without images."""
        return share_of(np.diag(self.confusion), self.confusion.sum(axis=1))

    @property
    def precision(self) -> Float[np.ndarray, " k"]:
        """The share of the images predicted as each class that are of it; NaN for a class that is never predicted."""
        return share_of(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def f1(self) -> Float[np.ndarray, " k"]:
        """The harmonic mean of precision and recall; NaN for a class without images."""
        found = 2 * np.diag(self.confusion) / np.maximum(self.confusion.sum(axis=0) + self.confusion.sum(axis=1), 1)
        return np.where(self.confusion.sum(axis=1) > 0, found, np.nan)

    @property
    def balanced(self) -> float:
        """The mean recall of the classes that have images: each counts alike, however rare."""
        return float(np.nanmean(self.recall))

    @property
    def balanced_interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the balanced accuracy."""
        counts = self.confusion.sum(axis=1)
        return interval_of_mean(self.recall[counts > 0], counts[counts > 0])

    @cached_property
    def reliability(self) -> Reliability:
        """How the probabilities compare with how often the answers are right."""
        return reliability(self.values, self.labels)

    @cached_property
    def reliability_before(self) -> Reliability | None:
        """The same without the temperature; None where there is none."""
        if self.temperature is None:
            return None
        return reliability(without_temperature(self.values, self.temperature), self.labels)

    @property
    def calibration_text(self) -> str:
        """Whether the probabilities can be taken at their word, with the temperature and without it."""
        now, before = self.reliability, self.reliability_before
        text = (
            f"Calibration: {now.tendency}. The expected calibration error is {now.error:.1%}; a perfectly calibrated "
            f"model shows {now.by_chance:.1%} on as many images."
        )
        if before is None:
            return text
        return f"{text} Without the temperature of {self.temperature:.3g} the error is {before.error:.1%}."

    @cached_property
    def mislabels(self) -> list[LikelyMislabel]:
        """Images whose label is likely wrong; none by a model that is no better than always giving one class."""
        return likely_mislabels(self.values, self.labels) if self.interval[0] > self.majority[1] else []

    @property
    def majority(self) -> tuple[int, float]:
        """The most frequent class of these images, and its share: the accuracy of always giving it."""
        counts = self.confusion.sum(axis=1)
        return int(counts.argmax()), float(counts.max() / counts.sum())

    def headline(self, names: Sequence[str]) -> str:
        return f"{self.accuracy:.1%} right"

    def summary(self, names: Sequence[str]) -> str:
        low, high = self.interval
        return (
            f"accuracy {self.accuracy:.1%} (95% interval {low:.1%} to {high:.1%}), balanced accuracy "
            f"{self.balanced_words}, loss {self.loss:.3f}"
        )

    @property
    def balanced_words(self) -> str:
        """The balanced accuracy with its interval."""
        least, most = self.balanced_interval
        return f"{self.balanced:.1%} ({least:.1%} to {most:.1%})"

    def baseline(self, names: Sequence[str]) -> str:
        most, share = self.majority
        tested = int((self.confusion.sum(axis=1) > 0).sum())
        return (
            f"always {names[most]}, the most frequent class of these images: accuracy {share:.1%}, balanced accuracy "
            f"{1 / tested:.1%}"
        )

    def lines(self, names: Sequence[str]) -> list[str]:
        found = []
        for label, name in enumerate(names):
            total, right = int(self.confusion[label].sum()), int(self.confusion[label, label])
            wrong = self.confusion[label].copy()
            wrong[label] = 0
            worst = f"   most often confused with {names[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
            precision = self.precision[label]
            answered = (
                "never predicted" if np.isnan(precision) else f"precision {precision:6.1%}   F1 {self.f1[label]:6.1%}"
            )
            tested = f"{right:>5} of {total:<5} recall {right / total:6.1%}   {answered}" if total else "not tested"
            found.append(f"{name:<16} {tested}{worst}")
        return found

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        most, share = self.majority
        columns = {"recall": self.recall, "precision": self.precision, "F1": self.f1}
        per_class = {
            name: {key: finite_or_none(column[label]) for key, column in columns.items()}
            | {"n": int(self.confusion[label].sum())}
            for label, name in enumerate(names)
        }
        return {
            "accuracy": self.accuracy,
            "interval": self.interval,
            "balanced_accuracy": self.balanced,
            "balanced_interval": self.balanced_interval,
            "loss": self.loss,
            "confusion": self.confusion.tolist(),
            "per_class": per_class,
            "majority": {"class": names[most], "accuracy": share},
            "calibration": self.calibration_json(),
        }

    def calibration_json(self) -> dict[str, Any]:
        """The calibration errors, and the bins of the reliability diagram that have images."""
        before = self.reliability_before
        return {
            "temperature": self.temperature,
            "error": self.reliability.error,
            "error_without_temperature": before.error if before else None,
            "error_by_chance": self.reliability.by_chance,
            "bins": [asdict(one) for one in self.reliability.bins if one.n],
        }


def confusion_of(labels: Int[np.ndarray, " n"], answers: Int[np.ndarray, " n"], count: int) -> Int[np.ndarray, "k k"]:
    return np.bincount(labels * count + answers, minlength=count * count).reshape(count, count)


def share_of(part: Int[np.ndarray, " k"], whole: Int[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """NaN where there is nothing to have a share of."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


class OneClass:
    """See `vitral.base.answer.Answer`; `temperature` divides the logits of a model that was calibrated."""

    task: Literal["one class"] = "one class"
    measure = "accuracy"
    unit = "logits"
    per_output = "class"

    def __init__(self, temperature: float | None = None):
        self.temperature = temperature

    def of_model(self, record: "ModelRecord") -> "OneClass":
        return OneClass(record.calibration.temperature) if record.calibration else self

    def values(self, output: "Tensor") -> "Tensor":
        if self.temperature is None:
            return output.softmax(dim=1)
        # In double precision two logits that differ stay different, so that the answer is the same as without it.
        return (output.cpu().double() / self.temperature).softmax(dim=1)

    def loss(
        self,
        label_smoothing: float = 0.0,
        targets: np.ndarray | None = None,
        balanced: bool = False,
        dice: float = 0.0,
    ) -> Loss:
        import torch
        import torch.nn.functional as F

        weights = None
        if balanced:  # every class has training images, so that each has a weight
            assert targets is not None, "a balanced loss needs the labels of the training images"
            weights = torch.from_numpy(balanced_weights(np.bincount(targets)))

        def class_loss(output: "Tensor", labels: "Tensor") -> "Tensor":
            own = None if weights is None else weights.to(output)
            smooth = partial(F.cross_entropy, weight=own, label_smoothing=label_smoothing)
            if own is None or labels.ndim == 1:
                return smooth(output, labels)
            # PyTorch divides by the number of images if labels are shares, and by their weight if they are classes.
            return smooth(output, labels, reduction="sum") / (labels @ own).sum()

        def weight(labels: "Tensor") -> float:
            if weights is None:
                return float(len(labels))
            own = weights.to(labels.device)
            return float((own[labels] if labels.ndim == 1 else labels.to(own) @ own).sum())

        return Loss(class_loss, weight)

    def correct(self, output: "Tensor", targets: "Tensor") -> int | None:
        """None for images that are mixed: none of their classes is the right one."""
        return int((output.argmax(dim=1) == targets).sum()) if targets.ndim == 1 else None

    def tally(self, record: "ModelRecord") -> RowTally:
        return RowTally(self.of_model(record), record.thresholds)

    def judge(
        self, values: Float[np.ndarray, "n k"], labels: np.ndarray, thresholds: Sequence[float] | None, note: str
    ) -> ClassFigures:
        return ClassFigures(values, labels, note, self.temperature)

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
