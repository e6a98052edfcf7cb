"""From the records of a study's runs to its verdict. Everything on a page is computed here, from records alone."""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vitral.base.errors import ConfigError
from vitral.base.p_values import holm
from vitral.data.spec import built_in_sets
from vitral.studies.decision_rules import (
    CANNOT_DIFFER,
    CEILING,
    NOTHING_LEARNED,
    Decision,
    Exactly,
    Limit,
    Verdict,
    exceeds_chance,
    limit_reached,
)
from vitral.studies.effects import Effect, MissingMeasure, Place, Record, SeedRuns, recorded_score
from vitral.studies.statistics import LEVEL
from vitral.studies.study import Hypothesis, Preset, Study

Undertrained = Literal["reference model not trained well enough"]
UNDERTRAINED: Undertrained = "reference model not trained well enough"


@dataclass(frozen=True)
class Finding:
    """A hypothesis, its effect for each seed (NaN where a run is missing), and what its rule decides.

    `corrected` is the p-value after Holm's correction. `unmatched` names the arms of other size among those that are
    compared: then the hypothesis is context. `shares` are the mean accuracies, or other shares, of the compared arms.
    """

    hypothesis: Hypothesis
    effects: tuple[float, ...]
    decision: Decision | None
    corrected: float
    verdict: Verdict
    unmatched: tuple[str, ...] = ()
    shares: tuple[tuple[str, float], ...] = ()


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
            self.finding(one, values, decision, corrected.get(index, 0.0))
            for index, (one, values, decision) in enumerate(zip(self.study.hypotheses, effects, decisions))
        )

    def finding(
        self, one: Hypothesis, values: tuple[float, ...], decision: Decision | None, corrected: float
    ) -> Finding:
        """A hypothesis with its verdict, or with the limit at which its arms stand."""
        verdict, shares = verdict_of(decision, corrected), self.compared_shares(one.effect)
        limit = limit_reached(one.rule, verdict, [share for _, share in shares], self.learned(one.effect))
        return Finding(one, values, decision, corrected, limit or verdict, self.study.unmatched_in(one), shares)

    def place_runs(self, place: Place) -> list[Record]:
        """The finished runs of an arm on a condition that an effect uses."""
        condition = place.condition or self.conditions[0]
        found = (run for run in self.runs if (run["arm"], run["condition"]) == (place.arm, condition))
        return [run for run in found if run["status"] != "failed"]

    def compared_shares(self, effect: Effect) -> tuple[tuple[str, float], ...]:
        """What each compared arm reaches, averaged over seeds; nothing unless arms are compared, by shares alone."""
        if len(effect.arms) < 2 or not all(place.is_share for place in effect.places):
            return ()
        found = [
            (place, self.values(place.measure, place.arm, place.condition or self.conditions[0]))
            for place in effect.places
        ]
        # A measure that is a list has no one share; a missing one is decided nowhere.
        if any(values.ndim != 1 or not len(values) for _, values in found):
            return ()
        several = len({place.condition or self.conditions[0] for place in effect.places}) > 1
        return tuple(
            (f"{place.arm} on {place.condition or self.conditions[0]}" if several else place.arm, float(values.mean()))
            for place, values in found
        )

    def learned(self, effect: Effect) -> list[bool]:
        """For each trained arm and condition that an effect uses, whether it exceeds chance on new images.

        Nothing if a record is from before chance was recorded. Validation images count too: images of another kind, as
        in a test of transfer, may leave an arm at chance that has learned.
        """
        places = dict.fromkeys((place.arm, place.condition) for place in effect.places)
        found = []
        for arm, condition in places:
            runs = self.place_runs(Place("accuracy", arm, condition, is_share=True))
            trained = [run for run in runs if run["training"]["samples"]]
            if any("chance" not in run["record"].get("sample", {}).get("test", {}) for run in trained):
                return []
            if trained:
                found.append(any(exceeds(trained, split) for split in ("val", "test")))
        return found

    @property
    def reference_accuracy(self) -> tuple[float, float] | None:
        """The reference arm's mean accuracy or mean IoU on validation images (NaN without a run), and what is required.

        None if the study requires nothing.
        """
        required = self.study.reference
        if required is None:
            return None
        place = required.arm, required.condition
        found = next((own for one in ("val_accuracy", "val_mIoU") if len(own := self.values(one, *place))), np.empty(0))
        return (float(found.mean()) if len(found) else math.nan), required.min_accuracy

    @property
    def verdict(self) -> Verdict | Undertrained:
        """The verdict on the deciding hypothesis, provided that the reference arm was trained well enough.

        One word for machines; a reader gets the `headline`, which has the scope.
        """
        # `not >=` instead of `<`: an accuracy of NaN is not enough either.
        if self.reference_accuracy is not None and not self.reference_accuracy[0] >= self.reference_accuracy[1]:
            return UNDERTRAINED
        deciding = self.findings[self.study.deciding].verdict
        return "supported" if deciding == "holds" else "refuted" if deciding == "broken" else deciding

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
        known |= {limit: self.limit_sentence(limit) for limit in (CANNOT_DIFFER, NOTHING_LEARNED)}
        return known.get(verdict, "Not enough runs finished, so nothing is decided.") + self.size_warning

    def limit_sentence(self, limit: Limit) -> str:
        """Why the arms that the deciding hypothesis compares cannot be compared here."""
        finding = self.findings[self.study.deciding]
        if limit == NOTHING_LEARNED:
            arms = " and ".join(sorted(finding.hypothesis.effect.arms))
            return f"Nothing learned here: {arms} stay at chance on new images, so there is nothing to compare."
        reached = "; ".join(f"{place} {share:.1%}" for place, share in finding.shares)
        return (
            f"Cannot differ here: every arm that is compared is above {CEILING:.0%} ({reached}), which leaves no "
            "room for what the claim says. Harder images could show it; these neither support nor refute it."
        )

    @property
    def size_warning(self) -> str:
        """A sentence if even the deciding hypothesis compares arms of different sizes."""
        names = self.findings[self.study.deciding].unmatched
        reasons = {arm.name: arm.unmatched for arm in self.study.arms}
        return "".join(f" Not matched in size: {name} ({reasons[name]})." for name in names)

    @property
    def scope(self) -> str:
        """What the verdict is about: the data, the size of the models, their training, and the number of seeds."""
        arms = self.study.hypotheses[self.study.deciding].effect.arms
        runs = [run for run in self.runs if run["arm"] in arms and "size" in run]
        samples = max((run["training"]["samples"] for run in runs), default=0)
        parts = [f"On {self.data_names}" if samples else "On this machine, nothing trained"]
        if samples:
            sizes = sorted({f"{run['size']['parameters'] / 1e6:.2g}" for run in runs}, key=float)
            parts += [f"at {' to '.join(dict.fromkeys((sizes[0], sizes[-1])))} M parameters", f"{samples:,} samples"]
        if self.findings[self.study.deciding].unmatched:
            parts.append("arms of different sizes")
        return ", ".join([*parts, f"{len(self.seeds)} seed{'s' * (len(self.seeds) != 1)}"])

    @property
    def data_names(self) -> str:
        """The data sets without their options; a folder of images by its name."""
        specs = [(condition.data, condition.data.partition(":")[0]) for condition in self.study.conditions]
        found = (name if name in built_in_sets() else f"the images in {Path(spec).name}" for spec, name in specs)
        return " and ".join(dict.fromkeys(found))

    @property
    def headline(self) -> str:
        """The result as one sentence with its scope, as pages and the terminal show it."""
        return f"{self.scope}: {first_sentence(self.sentence)}"

    @property
    def details(self) -> str:
        """What follows the headline's sentence."""
        return self.sentence.removeprefix(first_sentence(self.sentence)).strip()

    @property
    def unfinished(self) -> list[Record]:
        """The runs that diverged or failed; they are reported, not dropped."""
        return [run for run in (*self.sweep, *self.runs) if run["status"] != "done"]


def first_sentence(text: str) -> str:
    """Up to the first full stop that a capital letter follows.

    >>> first_sentence("It costs 5.5 points. What else it costs is open.")
    'It costs 5.5 points.'
    """
    return re.split(r"(?<=\.) (?=[A-Z])", text, maxsplit=1)[0]


def exceeds(runs: Sequence[Record], split: str) -> bool:
    """Whether runs of one arm are, together, above chance on a split."""
    accuracy, chance = (
        float(np.mean(found))
        for found in zip(
            *((recorded_score(run["record"], split), run["record"]["sample"][split]["chance"]) for run in runs)
        )
    )
    return exceeds_chance(accuracy, chance, sum(run["record"]["n"][split] for run in runs))


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
