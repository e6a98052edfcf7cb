"""Several classes at once: one logit per class, whose sigmoid is that class's own probability; a threshold decides.

Axes:  b n images   k classes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from vitral.base.answer import Answered, Loss, RowTally
from vitral.base.average_precision import average_precision
from vitral.base.intervals import bootstrap

if TYPE_CHECKING:
    from torch import Tensor

    from vitral.base.record import ModelRecord

THRESHOLD = 0.5  # of a class whose threshold is not stated


@dataclass(frozen=True)
class LabelFigures:
    """The figures of independent classes: `values` are probabilities, `labels` say which classes an image has.

    mAP is the mean of the average precisions of the classes that at least one image has (Everingham et al. 2010, §4.2,
    without interpolation).
    """

    values: Float[np.ndarray, "n k"]
    labels: Bool[np.ndarray, "n k"]
    thresholds: tuple[float, ...]
    note: str = ""

    @property
    def answers(self) -> Bool[np.ndarray, "n k"]:
        """Which classes reach their thresholds."""
        return self.values >= np.array(self.thresholds)

    @cached_property
    def average_precisions(self) -> Float[np.ndarray, " k"]:
        """One per class; not a number for a class that no image has."""
        return np.array([average_precision(*pair) for pair in zip(self.values.T, self.labels.T)])

    @property
    def value(self) -> float:
        return mean_of(self.average_precisions)

    @property
    def loss(self) -> float:
        """Mean binary cross-entropy over images and classes, in nats."""
        right = np.where(self.labels, self.values, 1 - self.values)
        return float(-np.log(np.maximum(right, 1e-12)).mean())

    @property
    def score(self) -> tuple[float, float]:
        """The highest mAP, and among equals the lowest loss."""
        return float(np.nan_to_num(self.value, nan=-1.0)), -self.loss

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of mAP over images."""
        return bootstrap(self.value_on, len(self.labels))

    def value_on(self, images: Int[np.ndarray, " m"]) -> float:
        pairs = zip(self.values[images].T, self.labels[images].T)
        return mean_of(np.array([average_precision(*pair) for pair in pairs]))

    @property
    def precision(self) -> Float[np.ndarray, " k"]:
        """The share of right ones among the images that are given each class; NaN for a class that none is given."""
        return ratio((self.answers & self.labels).sum(axis=0), self.answers.sum(axis=0))

    @property
    def recall(self) -> Float[np.ndarray, " k"]:
        """The share of the images of each class that are given it; NaN for a class that no image has."""
        return ratio((self.answers & self.labels).sum(axis=0), self.labels.sum(axis=0))

    @property
    def f1(self) -> Float[np.ndarray, " k"]:
        """The harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN); NaN for a class on neither side."""
        return ratio(2 * (self.answers & self.labels).sum(axis=0), self.answers.sum(axis=0) + self.labels.sum(axis=0))

    @property
    def exact(self) -> float:
        """The share of images that are given all their classes and no other."""
        return float((self.answers == self.labels).all(axis=1).mean())

    def headline(self, names: Sequence[str]) -> str:
        return f"mAP {self.value:.1%}"

    def summary(self, names: Sequence[str]) -> str:
        low, high = self.interval
        return (
            f"mAP {self.value:.1%} (95% interval {low:.1%} to {high:.1%}), mean F1 {mean_of(self.f1):.1%}, all classes "
            f"right {self.exact:.1%}, loss {self.loss:.3f}"
        )

    def baseline(self, names: Sequence[str]) -> str:
        shares = self.labels.mean(axis=0)
        sets, counts = np.unique(self.labels, axis=0, return_counts=True)
        common = [name for name, has in zip(names, sets[counts.argmax()]) if has]
        chance = mean_of(np.where(shares > 0, shares, np.nan))
        return (
            f"chance: mAP {chance:.1%}, the mean share of images per class; always "
            f"{' and '.join(common) or 'no class'}, the most frequent answer: all classes right "
            f"{counts.max() / counts.sum():.1%}"
        )

    def lines(self, names: Sequence[str]) -> list[str]:
        rows = zip(names, self.labels.sum(axis=0), self.average_precisions, self.precision, self.recall, self.f1)
        found = []
        for (name, count, ap, precision, recall, f1), threshold in zip(rows, self.thresholds):
            figures = f"AP {percent(ap)}   chance {count / len(self.labels):6.1%}   at {threshold:.0%}: precision "
            figures += f"{percent(precision)}, recall {percent(recall)}, F1 {percent(f1)}"
            found.append(f"{name:<16} {count:>5} of {len(self.labels):<5} {figures}")
        return found

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        columns = {"average_precision": self.average_precisions, "precision": self.precision, "recall": self.recall}
        columns |= {"f1": self.f1, "chance": self.labels.mean(axis=0), "threshold": np.array(self.thresholds)}
        per_class = {
            name: {key: none_for_nan(column[index]) for key, column in columns.items()}
            | {"images": int(self.labels[:, index].sum())}
            for index, name in enumerate(names)
        }
        return {
            "mAP": none_for_nan(self.value),
            "interval": [none_for_nan(end) for end in self.interval],
            "exact": self.exact,
            "loss": self.loss,
            "per_class": per_class,
        }


def mean_of(values: Float[np.ndarray, " k"]) -> float:
    """The mean of those that are numbers; not a number if none is."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")


def ratio(part: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, " k"]:
    """Part over whole; not a number where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def percent(value: float) -> str:
    return "  none" if np.isnan(value) else f"{value:6.1%}"


def none_for_nan(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else float(value)


class SeveralClasses:
    """See `vitral.base.answer.Answer`."""

    task: Literal["several classes"] = "several classes"
    measure = "mAP"
    unit = "logits"
    per_output = "class"

    def of_model(self, record: "ModelRecord") -> "SeveralClasses":
        return self

    def values(self, output: "Tensor") -> "Tensor":
        return output.sigmoid()

    def loss(
        self,
        label_smoothing: float = 0.0,
        targets: np.ndarray | None = None,
        balanced: bool = False,
        dice: float = 0.0,
    ) -> Loss:
        import torch.nn.functional as F

        def binary_cross_entropy(output: "Tensor", labels: "Tensor") -> "Tensor":
            smooth = labels.to(output.dtype) * (1 - label_smoothing) + label_smoothing / 2
            return F.binary_cross_entropy_with_logits(output, smooth)

        return Loss(binary_cross_entropy)

    def correct(self, output: "Tensor", targets: "Tensor") -> int | None:
        return None

    def tally(self, record: "ModelRecord") -> RowTally:
        return RowTally(self, record.thresholds)

    def judge(
        self, values: Float[np.ndarray, "n k"], labels: np.ndarray, thresholds: Sequence[float] | None, note: str
    ) -> LabelFigures:
        return LabelFigures(values, labels, tuple(thresholds or (THRESHOLD,) * values.shape[1]), note)

    def groups(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        return {name: np.flatnonzero(has) for name, has in zip(names, labels.T)}

    def describe(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        counts = dict(zip(names, labels.sum(axis=0).tolist()))
        return {"task": self.task, "classes": counts, "without_class": int((~labels.any(axis=1)).sum())}

    def target(self, output: "Tensor") -> "Tensor":
        return output.argmax(dim=1)

    def score(self, output: "Tensor") -> Float[np.ndarray, "b k"]:
        """The logits themselves: a probability near 0 or 1 hardly moves, whatever is covered."""
        found: np.ndarray = output.double().cpu().numpy()
        return found

    def score_name(self, name: str) -> str:
        return f"the logit of {name}"

    def evidence(self, name: str) -> str:
        return f"the patches that {self.score_name(name)} depends on"

    def show_score(self, value: float) -> str:
        return f"{value:.2f}"

    def least(self, scores: np.ndarray) -> float:
        return 0.01

    def rounding(self, value: float) -> float:
        return 1e-5

    def text(self, prediction: Answered, top: int | None) -> str:
        chances = ", ".join(f"{name} {chance:.1%}" for name, chance in prediction.best(top))
        reached = ", ".join(prediction.above_threshold) or "none"
        return f"{chances} (each on its own; {threshold_words(prediction)}: {reached})"

    def short(self, prediction: Answered) -> str:
        (name, probability), *_ = prediction.best(1)
        return f"{name} ({probability:.0%})"

    def to_json(self, prediction: Answered, top: int | None) -> dict[str, Any]:
        return {
            "task": self.task,
            "classes": dict(prediction.best(top)),
            "above_threshold": list(prediction.above_threshold),
            "thresholds": dict(zip(prediction.names, prediction.thresholds)),
        }

    def to_csv_row(self, prediction: Answered) -> dict[str, str | float]:
        return {"classes": "|".join(prediction.above_threshold), **dict(zip(prediction.names, prediction.values))}


def threshold_words(prediction: Answered) -> str:
    """The thresholds in words: one for all classes, or that each has its own."""
    distinct = set(prediction.thresholds)
    return f"at least {distinct.pop():.0%}" if len(distinct) == 1 else "at least their thresholds"


several_classes = SeveralClasses()
