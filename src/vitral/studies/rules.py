"""What an interval must do to decide: rules, each with the smallest effect that matters, said beforehand.

A rule gives a probability for each side, supported and refuted: how likely so clear an outcome would be if the truth
lay just at its border. Holm's correction (1979) over the hypotheses of a study and a level of 5 % make verdicts of
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitral.studies.statistics import LEAST_SPREAD, t_interval, tail

Verdict = Literal["supported", "refuted", "inconclusive", "holds", "broken", "not measured"]


@dataclass(frozen=True)
class Decided:
    """The side that the values are on, how likely that is by chance (two-sided), their mean and its interval."""

    side: Verdict
    p: float
    mean: float
    low: float
    high: float


def chance(values: np.ndarray, border: float, above: bool) -> float:
    """How likely a mean so far above (or below) a border would be, were it the truth: Student's t, one-sided."""
    spread = max(float(values.std(ddof=1)), LEAST_SPREAD)
    t = (float(values.mean()) - border) / (spread / np.sqrt(len(values)))
    return tail(t if above else -t, len(values) - 1)


@dataclass(frozen=True)
class Beyond:
    """Supported where the whole interval is above `least`, refuted where it is below."""

    least: int | float

    @property
    def words(self) -> str:
        return f"more than {self.least:g}"

    def decide(self, values: Sequence[float] | np.ndarray) -> Decided:
        found = np.asarray(values, dtype=np.float64)
        supported, refuted = chance(found, self.least, above=True), chance(found, self.least, above=False)
        return decided(found, {"supported": supported, "refuted": refuted})


@dataclass(frozen=True)
class Within:
    """Supported where the whole interval is between -`most` and `most`, refuted where it is outside on one side.

    Two one-sided tests (Schuirmann 1987), at half the level each, so that the plain interval decides.
    """

    most: int | float

    @property
    def words(self) -> str:
        return f"between -{self.most:g} and {self.most:g}"

    def decide(self, values: Sequence[float] | np.ndarray) -> Decided:
        found = np.asarray(values, dtype=np.float64)
        inside = max(chance(found, -self.most, above=True), chance(found, self.most, above=False))
        outside = min(chance(found, self.most, above=True), chance(found, -self.most, above=False))
        return decided(found, {"supported": inside, "refuted": outside})


def decided(values: np.ndarray, p: dict[Verdict, float]) -> Decided:
    low, high = t_interval(values)
    side = min(p, key=lambda verdict: p[verdict])
    return Decided(side, min(1.0, 2 * p[side]), float(values.mean()), low, high)


@dataclass(frozen=True)
class Exactly:
    """Not estimated but proved: holds if no seed's effect is further from zero than rounding."""

    tolerance: int | float

    @property
    def words(self) -> str:
        return f"zero to {self.tolerance:g}"

    def decide(self, values: Sequence[float] | np.ndarray) -> Decided:
        found = np.asarray(values, dtype=np.float64)
        worst = float(np.abs(found).max())
        side: Verdict = "holds" if worst <= self.tolerance else "broken"
        return Decided(side, 0.0, float(found.mean()), float(found.min()), float(found.max()))


Rule = Beyond | Within | Exactly
