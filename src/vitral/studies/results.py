"""From the records of a study's runs to its verdict. Everything on a page is computed here, from records alone."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitral.base.errors import ConfigError
from vitral.base.p_values import holm
from vitral.studies.decision_rules import Decision, Exactly, Verdict
from vitral.studies.effects import Effect, MissingMeasure, Record, SeedRuns
from vitral.studies.statistics import LEVEL
from vitral.studies.study import Hypothesis, Preset, Study

Undertrained = Literal["reference model not trained well enough"]
UNDERTRAINED: Undertrained = "reference model not trained well enough"


@dataclass(frozen=True)
class Finding:
    """A hypothesis, its effect for each seed (NaN where a run is missing), and what its rule decides.

    `corrected` is the p-value after Holm's correction.
    """

    hypothesis: Hypothesis
    effects: tuple[float, ...]
    decision: Decision | None
    corrected: float
    verdict: Verdict


@dataclass(frozen=True)
class Results:
    """The records of a study's runs under a preset, and what follows from them."""

    study: Study
    preset: Preset
    runs: tuple[Record, ...]
    sweep: tuple[Record, ...] = ()

    @property
    def seeds(self) -> list[int]:
        return sorted({run["seed"] for run in self.runs})

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(condition.name for condition in self.study.conditions)

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(arm.name for arm in self.study.arms)

    def seed_runs(self, seed: int) -> SeedRuns:
        runs = {(run["arm"], run["condition"]): run for run in self.runs if run["seed"] == seed}
        return SeedRuns(runs, self.conditions[0])

    def values(self, measure: str, arm: str, condition: str) -> np.ndarray:
        """A measure as an array, one row for each seed that has it; empty if no run has it."""
        found = []
        for seed in self.seeds:
            with suppress(MissingMeasure):
                found.append(self.seed_runs(seed).value(measure, arm, condition))
        return np.array(found, dtype=np.float64)

    def effect(self, effect: Effect) -> tuple[float, ...]:
        """An effect's value for each seed, NaN where a run is missing. Raises `ConfigError` if it has no value."""
        found = []
        for seed in self.seeds:
            try:
                found.append(float(effect.compute(self.seed_runs(seed))))
            except MissingMeasure:
                found.append(math.nan)
            except (TypeError, ValueError, ZeroDivisionError, IndexError) as error:
                raise ConfigError(f"The effect {effect.text} of {self.study.title!r} has no value: {error}.") from error
        return tuple(found)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every hypothesis decided, with Holm's correction over those that are estimated."""
        effects = [self.effect(one.effect) for one in self.study.hypotheses]
        decisions = [decide(one, values) for one, values in zip(self.study.hypotheses, effects)]
        # What is proved has no p-value, and a hypothesis that was not measured took no chance of a false verdict:
        # neither counts towards the number of hypotheses that Holm corrects for.
        estimated = {
            index: decision.p
            for index, (one, decision) in enumerate(zip(self.study.hypotheses, decisions))
            if decision is not None and not isinstance(one.rule, Exactly)
        }
        corrected = dict(zip(estimated, holm(list(estimated.values()))))
        return tuple(
            Finding(one, values, decision, corrected.get(index, 0.0), verdict_of(decision, corrected.get(index, 0.0)))
            for index, (one, values, decision) in enumerate(zip(self.study.hypotheses, effects, decisions))
        )

    @property
    def reference_accuracy(self) -> tuple[float, float] | None:
        """The reference arm's mean validation accuracy over seeds (NaN without a run), and what is required of it.

        None if the study requires nothing.
        """
        required = self.study.reference
        if required is None:
            return None
        found = self.values("val_accuracy", required.arm, required.condition)
        return (float(found.mean()) if len(found) else math.nan), required.min_accuracy

    @property
    def verdict(self) -> Verdict | Undertrained:
        """The verdict on the first hypothesis, provided that the reference arm was trained well enough."""
        # `not >=` instead of `<`: an accuracy of NaN is not enough either.
        if self.reference_accuracy is not None and not self.reference_accuracy[0] >= self.reference_accuracy[1]:
            return UNDERTRAINED
        first = self.findings[0].verdict
        return "supported" if first == "holds" else "refuted" if first == "broken" else first

    @property
    def sentence(self) -> str:
        """What the verdict means, in words that were written before the runs."""
        if self.preset == "smoke":
            return "A smoke run only shows that everything runs; it gives no verdict."
        verdict, outcomes = self.verdict, self.study.outcomes
        if verdict == UNDERTRAINED:
            assert self.reference_accuracy is not None and self.study.reference is not None
            reached, minimum = self.reference_accuracy
            return (
                f"{self.study.reference.arm} reaches {reached:.1%} on validation images, of the required {minimum:.0%}."
            )
        known = {"supported": outcomes.supported, "refuted": outcomes.refuted, "inconclusive": outcomes.inconclusive}
        return known.get(verdict, "Not enough runs finished.")

    @property
    def unfinished(self) -> list[Record]:
        """The runs that diverged or failed; they are reported, not dropped."""
        return [run for run in (*self.sweep, *self.runs) if run["status"] != "done"]


def decide(hypothesis: Hypothesis, effects: Sequence[float]) -> Decision | None:
    """What the hypothesis's rule decides; None if a seed is missing, or if there is only one.

    The seeds that finished may be those that went well, so they alone decide nothing. One seed has no spread, unless
    the rule needs none.
    """
    complete = not any(math.isnan(value) for value in effects)
    enough = len(effects) >= (1 if isinstance(hypothesis.rule, Exactly) else 2)
    return hypothesis.rule.decide(effects) if complete and enough else None


def verdict_of(decision: Decision | None, corrected: float) -> Verdict:
    """The verdict at the level of 5 %, from the corrected p-value."""
    if decision is None:
        return "not measured"
    # The small tolerance keeps a p that is 0.05 but for rounding on the side where the interval ends at the border.
    return decision.side if corrected <= 1 - LEVEL + 1e-12 else "inconclusive"
