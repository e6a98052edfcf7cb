"""How far to trust one image's map: does it find what the model's score depends on better than chance, and how much of
it lies on outlier tokens?

`Trials` runs the test; a `Trust` is what it found of one map. With n random orders, of which k do at least as well as
the map, p = (1 + k) / (1 + n) (Phipson & Smyth 2010, "Permutation P-values Should Never Be Zero"). Several maps of an
image are corrected together (Holm 1979). One image may be too little evidence: a map that does not pass may still show
something.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vitral.base.answer import ScoredAnswer, answer_for
from vitral.base.errors import UsageError
from vitral.base.p_values import holm
from vitral.base.record import Task
from vitral.explain.maps import Maps

FALSE_POSITIVES = 0.05  # share of images of which a noise map may be called better than chance, and as many worse

NO_TEST = "No test was run, because no random orders were requested (orders = 0)."

Verdict = Literal[
    "better than chance",
    "worse than chance",
    "inconclusive for a single image",
    "too few orders",
    "cannot be tested",
    "not tested",
]


@dataclass(frozen=True)
class Trust:
    """The test of one image's map.

    area         the mean score as patches are covered, highest first
    by_chance    the same for each random order
    on_outliers  the share of the map on outlier tokens
    label        the class or number; `which` is the map that was tested, of several
    untested     why the map could not be tested, in a sentence
    task         the model's, which says what the score is
    unlike       a few words for an image that is unlike the training images
    together     how many maps of the image were tested together
    corrected    the p-values of doing better and of doing worse after Holm's correction over them; None for a map alone
    difference   how far scores in bfloat16 are from float32 on the image with no patch covered; None if in float32
    """

    area: float
    by_chance: tuple[float, ...]
    on_outliers: float
    label: str
    which: str = ""
    untested: str = ""
    task: Task = "one class"
    unlike: str = ""
    together: int = 1
    corrected: tuple[float, float] | None = None
    difference: float | None = None

    @property
    def answer(self) -> ScoredAnswer:
        answer = answer_for(self.task)
        assert isinstance(answer, ScoredAnswer), "a region of a segmentation model is tested as a classifier"
        return answer

    @property
    def score(self) -> str:
        """What the score is called: "the probability of cat"."""
        return self.answer.score_name(self.label)

    @property
    def tied(self) -> float:
        """Areas that differ by less are ties."""
        return self.answer.rounding(self.area)

    @property
    def as_good(self) -> int:
        """How many random orders do as well as the map or better, ties counted."""
        border = self.area + self.tied
        return sum(area <= border for area in self.by_chance)

    @property
    def as_bad(self) -> int:
        """How many random orders do as badly as the map or worse, ties counted."""
        border = self.area - self.tied
        return sum(area >= border for area in self.by_chance)

    @property
    def p(self) -> float:
        """How often a map of noise does as well; not a number for a map that could not be tested."""
        return float("nan") if self.untested else (1 + self.as_good) / (1 + len(self.by_chance))

    @property
    def p_worse(self) -> float:
        """How often a map of noise does as badly; not a number for a map that could not be tested."""
        return float("nan") if self.untested else (1 + self.as_bad) / (1 + len(self.by_chance))

    @property
    def p_corrected(self) -> float:
        """`p` after the correction for the maps tested together, by which the verdict is decided."""
        return self.corrected[0] if self.corrected else self.p

    @property
    def p_worse_corrected(self) -> float:
        """`p_worse` after the correction for the maps tested together."""
        return self.corrected[1] if self.corrected else self.p_worse

    @property
    def too_few_orders(self) -> bool:
        """Whether no map could be better or worse than chance, however few orders do as well."""
        return not self.untested and len(self.by_chance) < least_orders(self.together)

    @property
    def verdict(self) -> Verdict:
        """The verdict for one image; on at most `FALSE_POSITIVES` of images a noise map is better, on as many worse."""
        if self.untested:
            return "not tested" if self.untested == NO_TEST else "cannot be tested"
        if self.too_few_orders:
            return "too few orders"
        border = FALSE_POSITIVES + 1e-9  # 20 / 400 may be rounded upwards
        if self.p_corrected <= border:
            return "better than chance"
        # The other tail has a test of its own: a map that hides what matters is worse than noise, not inconclusive.
        return "worse than chance" if self.p_worse_corrected <= border else "inconclusive for a single image"

    @property
    def better_than_chance(self) -> bool:
        return self.verdict == "better than chance"

    @property
    def sentence(self) -> str:
        """The test in words, for a caption."""
        if self.untested:
            return self.untested + self.outlier_note + self.unlike_note
        return (
            f"Tested{self.which and f' ({self.which})'}: with the map's highest patches covered first, {self.score} "
            f"averages {self.answer.show_score(self.area)}; with {len(self.by_chance)} random orders it averages "
            f"{self.answer.show_score(min(self.by_chance))} to {self.answer.show_score(max(self.by_chance))}, "
            f"{self.conclusion}{self.precision_note}{self.outlier_note}{self.unlike_note}"
        )

    @property
    def unlike_note(self) -> str:
        """A sentence for an image that is unlike the training images, whose answer may mean nothing."""
        return f" The model was given an image {self.unlike}." if self.unlike else ""

    @property
    def outlier_note(self) -> str:
        """A sentence on the share of the map on outlier tokens, if it is not negligible."""
        if self.on_outliers <= 0.005:
            return ""
        return (
            f" {self.on_outliers:.0%} of the map lies on patch tokens of unusually large norm, which may hold "
            "something other than the image content at their position."
        )

    @property
    def precision_note(self) -> str:
        """A sentence on the precision of the scores, if it is not that of the image."""
        if self.difference is None:
            return ""
        return (
            " The scores were computed in bfloat16; with no patch covered, they differ from float32 by at most "
            f"{self.difference:.1g}."
        )

    def p_text(self, p: float, corrected: float) -> str:
        """A p-value in words, with its correction if several maps were tested together."""
        if self.together == 1:
            return rounded_p(p)
        return f"{rounded_p(p)}; {corrected:.2f} after correction, because {self.together} methods were tested together"

    @property
    def conclusion(self) -> str:
        patches = self.answer.evidence(self.label)
        as_low = f"as low or lower in {self.as_good} of the orders ({self.p_text(self.p, self.p_corrected)})"
        match self.verdict:
            case "better than chance":
                return f"{as_low}. So the map finds {patches} better than chance."
            case "worse than chance":
                as_high = f"as high or higher in {self.as_bad} of the orders"
                if self.together > 1:
                    as_high += f" ({self.p_text(self.p_worse, self.p_worse_corrected)})"
                return f"{as_high}. So the map finds {patches} worse than chance."
            case "too few orders":
                return f"{as_low}. {too_few_orders(len(self.by_chance), self.together)}"
            case _:
                return f"{as_low}. This single image is inconclusive on whether the map finds {patches}."


def check_orders(orders: int | None) -> None:
    """Raise `UsageError` for what is not a number of random orders."""
    whole = isinstance(orders, int | np.integer) and not isinstance(orders, bool)
    if orders is not None and (not whole or orders < 0):
        raise UsageError(
            f"orders={orders!r} is not a number of random orders: give a whole number, {least_orders(1)} or more for "
            "one method, or 0 for no test; leave it out for the default."
        )


def least_orders(methods: int) -> int:
    """How many random orders can decide so many methods tested together: p is at least methods / (1 + orders).

    >>> least_orders(1), least_orders(3)
    (19, 59)
    """
    return round(methods / FALSE_POSITIVES) - 1


def too_few_orders(orders: int, methods: int) -> str:
    """The sentence for a test that could not decide, with the number of orders that could."""
    several = f" {methods} methods tested together" if methods > 1 else ""
    return f"Too few orders: {orders} cannot decide{several}; {least_orders(methods)} would do."


def correct_together(tests: Sequence[Trust]) -> list[Trust]:
    """The tests of several maps of an image, corrected by Holm's method over those that could be tested.

    The tests share their random orders, so they depend on each other, which Holm's method allows.
    """
    places = [place for place, one in enumerate(tests) if not one.untested]
    better = holm([tests[place].p for place in places])
    worse = holm([tests[place].p_worse for place in places])
    corrected = list(tests)
    if len(places) > 1:
        for place, *both in zip(places, better, worse):
            corrected[place] = replace(tests[place], together=len(places), corrected=(both[0], both[1]))
    return corrected


def with_trust(maps: Maps, tests: list[Trust]) -> Maps:
    """The same maps with the tests of each image's map."""
    sentences = tuple(one.sentence for one in tests)
    return replace(maps, tested=sentences, verdicts=tuple(str(one.verdict) for one in tests))


def untested(share: float, label: str, reason: str) -> Trust:
    return Trust(float("nan"), (), share, label, untested=reason)


def rounded_p(p: float) -> str:
    """A p-value to two digits; it is never zero.

    >>> rounded_p(0.034), rounded_p(0.003)
    ('p = 0.03', 'p < 0.01')
    """
    return f"p = {p:.2f}" if p >= 0.01 else "p < 0.01"
