"""Scores of methods with intervals, and whether each beats the controls.

Axes:  b images   s sums
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vitral.explain.metric import Metric

RESAMPLES = 1_000  # bootstrap draws of an interval
COVERED = 0.9  # share of the images that must have a value for a method to be said to beat its controls
LEGEND = "\\* does not beat every control."
Values = Float[np.ndarray, "b *s"]


@dataclass(frozen=True)
class Score:
    """One method by one metric: its mean over `n` images that have a value, and a 95 % interval over the images.

    `beats_controls` is whether it is better than each control in 97.5 % of the draws of images, over the images for
    which both have a value, and has one for `COVERED` of them at least; None for a control, or where a metric has no
    better.
    """

    method: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    control: bool
    better: str
    beats_controls: bool | None = None


@dataclass(frozen=True)
class Table:
    """All scores, in the order of methods and metrics; a notebook shows it.

    `refused` are the methods that cannot explain the model, each with its reason.
    """

    scores: tuple[Score, ...]
    caption: str
    images: int
    refused: dict[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        """One row per method, controls last; `*` where a method does not beat all controls."""
        metrics = list(dict.fromkeys(score.metric for score in self.scores))
        methods = list(dict.fromkeys(score.method for score in self.scores))
        arrows = {"higher": " ↑", "lower": " ↓", "neither": ""}
        arrow = {score.metric: arrows[score.better] for score in self.scores}
        by_place = {(score.method, score.metric): score for score in self.scores}
        lines = ["| | " + " | ".join(f"{metric}{arrow[metric]}" for metric in metrics) + " |"]
        lines.append("|---|" + "---|" * len(metrics))
        for method in methods:
            cells = [cell(by_place[method, metric], self.images) for metric in metrics]
            name = f"*{method}* (control)" if by_place[method, metrics[0]].control else method
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join([*lines, "", f"{self.caption} {LEGEND}"])

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(score) for score in self.scores]

    def _repr_markdown_(self) -> str:
        return self.markdown()


def cell(score: Score, images: int) -> str:
    if np.isnan(score.value):
        return "none"
    mark = " \\*" if score.beats_controls is False else ""
    some = f", n = {score.n}" if score.n < images else ""
    return f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f}{some}){mark}"


def score_of(method: str, metric: Metric, values: Mapping[str, Values], controls: Sequence[str]) -> Score:
    """The score of a method among the values that all methods and controls have by one metric."""
    own = values[method]
    # One seed for all methods: each draw takes the same images, so that methods are compared on equal samples.
    draws = np.random.default_rng(0).integers(0, len(own), (RESAMPLES, len(own)))
    pooled = np.array([metric.pool(own[draw]) for draw in draws])
    low, high = np.nanquantile(pooled, [0.025, 0.975]) if np.isfinite(pooled).any() else (np.nan, np.nan)
    beats = None
    if method not in controls and metric.better != "neither":
        sign = 1 if metric.better == "higher" else -1
        beats = all(is_better(sign, metric.pool, own, values[control], draws) for control in controls)
    return Score(
        method=method,
        metric=metric.function.__name__,
        value=metric.pool(own),
        low=float(low),
        high=float(high),
        n=int(has_value(own).sum()),
        control=method in controls,
        better=metric.better,
        beats_controls=beats,
    )


def sentences_on_controls(scores: Sequence[Score]) -> list[str]:
    """Which controls have no value by a metric, so that by this metric no method can be said to beat them."""
    ranked = [one for one in scores if one.control and one.better != "neither" and not one.n]
    return [
        f"The control {one.method} has no value by {one.metric}: no method is reported to beat every control by it."
        for one in ranked
    ]


def is_better(
    sign: int, pool: Callable[[Values], float], own: Values, other: Values, draws: Int[np.ndarray, "r b"]
) -> bool:
    """Whether `own` is above `other` in 97.5 % of the draws of images, over those for which both have a value.

    Nothing is better than a control without any value, and a method without values for many images is not better.
    """
    present, known = has_value(own), has_value(other)
    if present.mean() < COVERED or not known.any():
        return False
    both = (present & known).reshape(-1, *[1] * (own.ndim - 1))
    own, other = np.where(both, own, np.nan), np.where(both, other, np.nan)
    differences = np.array([sign * (pool(own[draw]) - pool(other[draw])) for draw in draws])
    return bool((differences > 0).mean() >= 0.975)


def has_value(values: Values) -> Any:
    """Which images have a value."""
    return ~np.isnan(values.reshape(len(values), -1)).any(axis=1)
