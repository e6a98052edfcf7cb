"""Decision rules: what an interval must do to decide a hypothesis. Each states the smallest effect that matters.

A rule gives one p-value for each side, supported and refuted: how likely a result at least this clear would be if the
true effect lay exactly at the rule's border. Holm's correction (1979) over the hypotheses of a study, at a level of
5 %, turns these into verdicts.

Two limits come before any rule: arms that are all at a ceiling cannot differ, and arms that are all at chance have
learned nothing that could be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitral.studies.statistics import LEAST_SPREAD, t_interval, t_tail

Effects = Sequence[float] | np.ndarray  # one per seed
Limit = Literal["cannot differ here", "nothing learned here"]
Verdict = Literal["supported", "refuted", "inconclusive", "holds", "broken", "not measured"] | Limit
CANNOT_DIFFER: Limit = "cannot differ here"
NOTHING_LEARNED: Limit = "nothing learned here"
CEILING = 0.95  # a comparison of arms that are all above this share leaves no room for a difference
ERRORS = 2  # standard errors above chance from which an arm has learned something


@dataclass(frozen=True)
class Decision:
    """The side that the effects favour, its two-sided p-value, and the mean effect with its interval."""

    side: Verdict
    p: float
    mean: float
    low: float
    high: float


def one_sided_p(effects: Effects, border: int | float, above: bool) -> float:
    """The chance of a mean this far above (or below) the border if the border were the true effect; Student's t."""
    spread = max(float(np.std(effects, ddof=1)), LEAST_SPREAD)
    t = (float(np.mean(effects)) - border) / (spread / np.sqrt(len(effects)))
    return t_tail(t if above else -t, len(effects) - 1)


@dataclass(frozen=True)
class Beyond:
    """Supported if the whole interval is above `least`, refuted if it is below."""

    least: int | float

    @property
    def text(self) -> str:
        return f"more than {self.least:g}"

    @property
    def borders(self) -> tuple[float, ...]:
        return (self.least,)

    @property
    def difference(self) -> Verdict:
        """The side that shows a difference. Above a negative border, no difference is enough to be supported."""
        return "supported" if self.least >= 0 else "refuted"

    def decide(self, effects: Effects) -> Decision:
        supported, refuted = (one_sided_p(effects, self.least, above) for above in (True, False))
        return favoured_side(effects, {"supported": supported, "refuted": refuted})


@dataclass(frozen=True)
class Within:
    """Supported if the whole interval is between -`most` and `most`, refuted if it is outside on one side.

    Two one-sided tests (Schuirmann 1987), each at half the level, so that the plain 95 % interval decides.
    """

    most: int | float

    @property
    def text(self) -> str:
        return f"between -{self.most:g} and {self.most:g}"

    @property
    def borders(self) -> tuple[float, ...]:
        return -self.most, self.most

    @property
    def difference(self) -> Verdict:
        return "refuted"

    def decide(self, effects: Effects) -> Decision:
        # To be inside, the effect must pass both tests, so the larger p counts; to be outside, one test is enough.
        inside = max(one_sided_p(effects, -self.most, above=True), one_sided_p(effects, self.most, above=False))
        outside = min(one_sided_p(effects, self.most, above=True), one_sided_p(effects, -self.most, above=False))
        return favoured_side(effects, {"supported": inside, "refuted": outside})


def favoured_side(effects: Effects, p: dict[Verdict, float]) -> Decision:
    """The side with the smaller p-value. The p-value is doubled, since the data chose the side."""
    low, high = t_interval(effects)
    side = min(p, key=p.__getitem__)
    return Decision(side, min(1.0, 2 * p[side]), float(np.mean(effects)), low, high)


@dataclass(frozen=True)
class Exactly:
    """For effects that are proved to be zero: holds if no seed is further from zero than `tolerance` (rounding)."""

    tolerance: int | float

    @property
    def text(self) -> str:
        return f"zero to within {self.tolerance:g}" if self.tolerance else "exactly zero"

    @property
    def borders(self) -> tuple[float, ...]:
        return ()

    def decide(self, effects: Effects) -> Decision:
        found = np.asarray(effects, dtype=np.float64)
        side: Verdict = "holds" if float(np.abs(found).max()) <= self.tolerance else "broken"
        return Decision(side, 0.0, float(found.mean()), float(found.min()), float(found.max()))


Rule = Beyond | Within | Exactly


def limit_reached(rule: Rule, verdict: Verdict, shares: Sequence[float], learned: Sequence[bool]) -> Limit | None:
    """What replaces a verdict where the arms leave nothing to decide; None if it stands.

    `shares` are the mean accuracies, or other shares from 0 to 1, of the arms that a hypothesis compares; none if it
    compares no arms, or not by shares. `learned` says of each trained arm that it names whether it exceeds chance. Arms
    at chance decide nothing. Arms above `CEILING` may still differ clearly, but that they do not is no result there.
    What is proved (`Exactly`) does not depend on what was learned.
    """
    if isinstance(rule, Exactly) or verdict == "not measured":
        return None
    if learned and not any(learned):
        return NOTHING_LEARNED
    if shares and min(shares) > CEILING and verdict != rule.difference:
        return CANNOT_DIFFER
    return None


def exceeds_chance(accuracy: float, chance: float, images: int) -> bool:
    """Whether an accuracy on `images` images is above chance by more than guessing gives."""
    return accuracy > chance + ERRORS * (chance * (1 - chance) / images) ** 0.5
