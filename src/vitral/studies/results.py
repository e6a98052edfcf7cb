"""From the records of a study's runs to its verdict; everything on a page is computed here, from records alone."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vitral.base.errors import ConfigError
from vitral.studies.rules import Beyond, Decided, Exactly, Verdict, Within
from vitral.studies.statistics import LEVEL, holm, t_interval
from vitral.studies.study import Hypothesis, Preset, Study

Record = Mapping[str, Any]
Word = Literal["supported", "refuted", "inconclusive", "not in regime", "not measured"]
ALWAYS = {"accuracy": "test_accuracy", "train_accuracy": "train_accuracy", "val_accuracy": "val_accuracy"}
FUNCTIONS = {"mean": lambda *values: float(np.mean(values)), "min": min, "max": max, "abs": abs, "log2": math.log2}


class Missing(Exception):
    """A measure that a seed has not: its run failed, diverged, or did not take place."""


@dataclass(frozen=True)
class Table:
    """One measure of one seed: `accuracy["vit", "plain"]`, or `accuracy["vit"]` where there is but one condition."""

    measure: str
    runs: Mapping[tuple[str, str], Record]
    conditions: tuple[str, ...]

    def __getitem__(self, place: str | tuple[str, str]) -> Any:
        arm, condition = (place, self.conditions[0]) if isinstance(place, str) else place
        return value_of(self.runs.get((arm, condition)), self.measure)


def value_of(run: Record | None, measure: str) -> Any:
    """Raises `Missing`."""
    if run is None or run["status"] == "failed":
        raise Missing
    if measure in ALWAYS:
        return run["record"][ALWAYS[measure]]
    if measure in ("parameters", "macs"):
        return run["size"][measure]
    if measure not in run.get("measures", {}):
        raise Missing
    return run["measures"][measure]


class Namespace(dict[str, Any]):
    """What a formula may name: functions, and every measure by its name."""

    def __init__(self, runs: Mapping[tuple[str, str], Record], conditions: tuple[str, ...]):
        super().__init__(FUNCTIONS)
        self.runs, self.conditions = runs, conditions

    def __missing__(self, name: str) -> Table:
        return Table(name, self.runs, self.conditions)


@dataclass(frozen=True)
class Finding:
    """A hypothesis, its effect for each seed (not a number where a run is missing), and what its rule says."""

    hypothesis: Hypothesis
    effects: tuple[float, ...]
    decided: Decided | None
    corrected: float
    verdict: Verdict


@dataclass(frozen=True)
class Results:
    """A study's records under a preset, with what follows from them."""

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

    def run(self, arm: str, condition: str, seed: int) -> Record | None:
        return next(
            (run for run in self.runs if (run["arm"], run["condition"], run["seed"]) == (arm, condition, seed)), None
        )

    def each(self, measure: str, arm: str, condition: str) -> Iterator[Any]:
        """A measure of each seed that has it."""
        for seed in self.seeds:
            try:
                yield value_of(self.run(arm, condition, seed), measure)
            except Missing:
                continue

    def values(self, measure: str, arm: str, condition: str) -> np.ndarray:
        """A measure as numbers, seeds first; empty if no run has it."""
        return np.array(list(self.each(measure, arm, condition)), dtype=np.float64)

    def effect(self, formula: str) -> tuple[float, ...]:
        """A formula's value for each seed. Raises `ConfigError` for a formula that cannot be computed."""
        found = []
        for seed in self.seeds:
            runs = {(run["arm"], run["condition"]): run for run in self.runs if run["seed"] == seed}
            try:
                found.append(float(eval(formula, {"__builtins__": {}}, Namespace(runs, self.conditions))))
            except Missing:
                found.append(math.nan)
            except (TypeError, ValueError, SyntaxError, ZeroDivisionError) as error:
                raise ConfigError(f"The formula {formula} of {self.study.title!r} has no value: {error}.") from error
        return tuple(found)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every hypothesis decided, with Holm's correction over those that are estimated."""
        effects = [self.effect(one.effect) for one in self.study.hypotheses]
        decided = [decide(one, values) for one, values in zip(self.study.hypotheses, effects)]
        estimated = [
            place
            for place, (one, own) in enumerate(zip(self.study.hypotheses, decided))
            if own is not None and not isinstance(one.rule, Exactly)
        ]
        corrected = dict(zip(estimated, holm([decided[place].p for place in estimated])))  # type: ignore[union-attr]
        return tuple(
            Finding(one, values, own, corrected.get(place, 0.0), word(own, corrected.get(place, 0.0)))
            for place, (one, values, own) in enumerate(zip(self.study.hypotheses, effects, decided))
        )

    @property
    def reached(self) -> tuple[float, float] | None:
        """Validation accuracy of the reference arm, mean over seeds, and what it had to be; None if nothing had to be.

        Not a number if no run has it.
        """
        regime = self.study.regime
        if regime is None:
            return None
        found = self.values("val_accuracy", regime.arm, regime.condition)
        return (float(found.mean()) if len(found) else math.nan), regime.least

    @property
    def verdict(self) -> Word:
        """What the first hypothesis says, if the reference arm learned what it was taught."""
        if self.reached is not None and not self.reached[0] >= self.reached[1]:
            return "not in regime"
        first = self.findings[0].verdict
        exact: dict[Verdict, Word] = {"holds": "supported", "broken": "refuted"}
        return exact.get(first, first)  # type: ignore[arg-type]

    @property
    def sentence(self) -> str:
        """The verdict in words that were written before the runs; of `smoke`, that it is none."""
        said = self.study.outcomes
        if self.preset == "smoke":
            return "A smoke run shows that everything runs, and nothing else."
        match self.verdict:
            case "supported":
                return said.supported
            case "refuted":
                return said.refuted
            case "inconclusive":
                return said.inconclusive
            case "not measured":
                return "Not enough runs came to their end."
            case _:
                assert self.reached is not None and self.study.regime is not None
                return (
                    f"Not in the regime: {self.study.regime.arm} stands at {self.reached[0]:.1%} on validation images, "
                    f"where {self.reached[1]:.0%} was asked for before arms are compared."
                )

    @property
    def lost(self) -> list[Record]:
        """The runs that diverged or failed; they are counted, not dropped."""
        return [run for run in (*self.sweep, *self.runs) if run["status"] != "done"]


def decide(hypothesis: Hypothesis, effects: Sequence[float]) -> Decided | None:
    """By its rule; None where a seed is missing, or one alone: the others might be those that went well."""
    whole = not any(math.isnan(value) for value in effects)
    enough = len(effects) >= (1 if isinstance(hypothesis.rule, Exactly) else 2)
    return hypothesis.rule.decide(effects) if whole and enough else None


def word(decided: Decided | None, corrected: float) -> Verdict:
    if decided is None:
        return "not measured"
    return decided.side if corrected <= 1 - LEVEL + 1e-12 else "inconclusive"


def interval_of(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and its interval over seeds."""
    low, high = t_interval(values)
    return float(values.mean()), low, high


def rule_words(hypothesis: Hypothesis) -> str:
    rule = hypothesis.rule
    assert isinstance(rule, Beyond | Within | Exactly)
    return rule.words
