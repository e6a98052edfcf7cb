"""Whether probabilities can be taken at their word: of the answers given with 80 %, are 80 % right?

Guo, Pleiss, Sun & Weinberger 2017, "On Calibration of Modern Neural Networks", §2 and §4.2.

Axes:  n images   k classes   b bins   r random draws
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 15  # as in the paper
DRAWS = 200  # of right and wrong answers that a perfectly calibrated model would give


@dataclass(frozen=True)
class Calibration:
    """What was chosen on a run's `n` validation images once its weights were final. It holds for these weights only.

    `temperature` divides the logits; None leaves them as they are. `levels` are thresholds on the probability of the
    answer, rising, each with the number of images that reach it and of the right ones among these. `notes` are
    sentences on what was chosen, and why something was not.
    """

    n: int
    temperature: float | None = None
    levels: tuple[tuple[float, int, int], ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For `--json`; without the levels, which only a program needs that chooses among them."""
        return {"temperature": self.temperature, "validation_images": self.n, "notes": list(self.notes)}


@dataclass(frozen=True)
class Bin:
    """The `n` images whose answers have a probability above `low`, up to `high`: its mean, and the share that is right.

    Both means are NaN in a bin without images.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability diagram, and the expected calibration error: the mean gap between both means.

    `by_chance` is the error that a perfectly calibrated model shows on average with as many images: the error is never
    0, since the share of right answers in a bin is measured on few images.
    """

    bins: tuple[Bin, ...]
    error: float
    by_chance: float
    confidence: float
    accuracy: float

    @property
    def tendency(self) -> str:
        """Whether the probabilities are too high or too low on the whole, in words."""
        gap = self.confidence - self.accuracy
        words = "too sure" if gap > 0 else "not sure enough"
        return (
            f"the answers have a probability of {self.confidence:.1%} on average, and {self.accuracy:.1%} are right"
            + (f", so the model is {words}" if abs(gap) > 0.01 and self.error > self.by_chance else "")
        )


def reliability(values: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> Reliability:
    """How the probabilities of the answers compare with how often these are right, in bins of equal width.

    >>> certain = np.array([[1.0, 0.0]] * 4)
    >>> reliability(certain, np.array([0, 0, 0, 1])).error
    0.25
    """
    sure = values.max(axis=1).astype(np.float64)
    right = values.argmax(axis=1) == labels
    place = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):  # 0 / 0 in a bin without images
        confidences = np.bincount(place, sure, BINS) / counts
        accuracies = np.bincount(place, right, BINS) / counts
    bins = tuple(
        Bin(index / BINS, (index + 1) / BINS, int(count), float(confidence), float(accuracy))
        for index, (count, confidence, accuracy) in enumerate(zip(counts, confidences, accuracies))
    )
    error = float(mean_gap(right[None].astype(np.float64), sure, place)[0])
    return Reliability(bins, error, error_by_chance(sure, place), float(sure.mean()), float(right.mean()))


def mean_gap(
    right: Float[np.ndarray, "r n"], sure: Float[np.ndarray, " n"], place: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " r"]:
    """The expected calibration error (equation 3) of each row of right (1) and wrong (0) answers."""
    in_bin = np.eye(BINS)[place]
    gaps: np.ndarray = np.abs((right - sure) @ in_bin).sum(axis=1) / len(sure)
    return gaps


def error_by_chance(sure: Float[np.ndarray, " n"], place: Int[np.ndarray, " n"]) -> float:
    """The mean error if each answer is right exactly with its probability (Bröcker & Smith 2007, §3), seeded."""
    rng = np.random.default_rng(0)
    drawn = [mean_gap((rng.random((1, len(sure))) < sure).astype(np.float64), sure, place) for _ in range(DRAWS)]
    return float(np.mean(drawn))


def without_temperature(values: Float[np.ndarray, "n k"], temperature: float) -> Float[np.ndarray, "n k"]:
    """The probabilities that logits have before they are divided by the temperature.

    >>> without_temperature(np.array([[0.75, 0.25]]), 2.0).round(3).tolist()
    [[0.9, 0.1]]
    """
    logits = temperature * np.log(np.maximum(values.astype(np.float64), np.finfo(np.float64).tiny))
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    before: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return before


def answered(values: Float[np.ndarray, "n k"], threshold: float) -> Bool[np.ndarray, " n"]:
    """Which images have an answer whose probability reaches a threshold."""
    reached: np.ndarray = values.max(axis=1) >= threshold
    return reached
