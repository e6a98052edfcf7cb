"""When to answer "unknown": the lowest probability at which answers are right often enough.

The threshold is chosen on validation images. That the wanted accuracy is the lower end of an interval, not the share
that happened to be right, keeps a lucky few images from promising too much (after Geifman & El-Yaniv 2017, "Selective
Classification for Deep Neural Networks", §3).

Axes:  n images   k classes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vitral.base.calibration import Calibration, answered
from vitral.base.errors import ConfigError
from vitral.base.intervals import interval
from vitral.base.record import Task

MOST_LEVELS = 100  # thresholds that are stored with a model
UNKNOWN_CLASS = "unknown"  # the answer below the threshold


@dataclass(frozen=True)
class Abstention:
    """Answers below `threshold` are "unknown"; on `n` validation images `reached` have one, and `right` are right."""

    wanted: float
    threshold: float
    n: int
    reached: int
    right: int

    def text(self) -> str:
        """What was chosen and on what, in one sentence."""
        low, high = interval(self.right / self.reached, self.reached)
        if self.reached == self.n:
            return (
                f"Every answer counts: of {self.n:,} validation images {self.right / self.n:.1%} were answered "
                f"correctly (95% interval {low:.1%} to {high:.1%}). This holds for images like these."
            )
        return (
            f"An answer needs a probability of {self.threshold:.1%}, else it is {UNKNOWN_CLASS!r}. With this threshold "
            f"{self.reached / self.n:.1%} of {self.n:,} validation images were answered, "
            f"{self.right / self.reached:.1%} of them correctly (95% interval {low:.1%} to {high:.1%}). This holds for "
            "images like these."
        )

    def to_json(self) -> dict[str, Any]:
        accuracy = self.right / self.reached
        return {
            "wanted": self.wanted,
            "threshold": self.threshold,
            "validation": {
                "n": self.n,
                "answered": self.reached / self.n,
                "accuracy": accuracy,
                "interval": list(interval(accuracy, self.reached)),
            },
        }


def levels_of(values: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> tuple[tuple[float, int, int], ...]:
    """Thresholds between the probabilities of the answers, rising, with the images that reach each and the right ones.

    >>> levels_of(np.array([[0.5, 0.5], [0.75, 0.25]]), np.array([1, 0]))
    ((0.0, 2, 1), (0.625, 1, 1))
    """
    sure, right = values.max(axis=1).astype(np.float64), values.argmax(axis=1) == labels
    distinct = np.unique(sure)
    # Halfway between two images, so that the rounding of another batch does not move one across.
    between = np.concatenate([[0.0], (distinct[1:] + distinct[:-1]) / 2])
    chosen = between[np.unique(np.linspace(0, len(between) - 1, MOST_LEVELS).round().astype(int))]
    return tuple((float(level), int((sure >= level).sum()), int(right[sure >= level].sum())) for level in chosen)


def check_has_unknown(classes: Sequence[str]) -> None:
    """Raise `ConfigError` if a class of the model has the name of the answer below the threshold."""
    if UNKNOWN_CLASS in classes:
        raise ConfigError(f"--at-least answers {UNKNOWN_CLASS!r}, which is a class of this model: rename that class.")


def choose_abstention(
    calibration: Calibration | None, wanted: float, name: str, task: Task = "one class"
) -> Abstention:
    """The lowest threshold above which at least the share `wanted` is right, by the lower end of the 95 % interval.

    Raises `ConfigError` if no validation images were recorded with the model `name`, if none of the thresholds is
    enough, or for another `task`.
    """
    if task != "one class":
        raise ConfigError(f"--at-least is for models with one class per image; the task of {name} is {task!r}.")
    if calibration is None or not calibration.levels:
        raise ConfigError(
            f"--at-least needs the accuracy of the model's answers on validation images, and {name} does not record "
            "it. Use a run of vitral train; for a finished run of an earlier version, vitral train --resume records it."
        )
    lowest = {level: interval(right / reached, reached)[0] for level, reached, right in calibration.levels if reached}
    for level, reached, right in calibration.levels:
        if reached and lowest[level] >= wanted:
            return Abstention(wanted, level, calibration.n, reached, right)
    best = max(lowest.values())
    raise ConfigError(
        f"--at-least {wanted:g}: the {calibration.n:,} validation images of {name} do not show such an accuracy at any "
        f"threshold. The highest that they show is {np.floor(1000 * best) / 1000:g} (lower end of the 95% interval). "
        "Request less, or train with more validation images: --val-split."
    )


@dataclass(frozen=True)
class Answering:
    """How an `Abstention` works on `n` other, labelled images: `reached` have an answer, and `right` are right."""

    chosen: Abstention
    n: int
    reached: int
    right: int

    def text(self) -> str:
        if not self.reached:
            return f"Here none of {self.n:,} images has an answer."
        low, high = interval(self.right / self.reached, self.reached)
        return (
            f"Here it answers {self.reached / self.n:.1%} of {self.n:,} images, {self.right / self.reached:.1%} of "
            f"them right (95% interval {low:.1%} to {high:.1%})"
            + (f": fewer than the {self.chosen.wanted:.1%} that were requested." if high < self.chosen.wanted else ".")
        )

    def to_json(self) -> dict[str, Any]:
        accuracy = self.right / self.reached if self.reached else None
        between = None if accuracy is None else list(interval(accuracy, self.reached))
        return self.chosen.to_json() | {
            "n": self.n,
            "answered": self.reached / self.n,
            "accuracy": accuracy,
            "interval": between,
        }


def judge_abstention(chosen: Abstention, values: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> Answering:
    """The share of these images that is answered, and how many of the answers are right."""
    has = answered(values, chosen.threshold)
    return Answering(chosen, len(labels), int(has.sum()), int((values.argmax(axis=1) == labels)[has].sum()))
