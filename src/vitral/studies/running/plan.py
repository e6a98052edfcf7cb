"""The runs of a study: one task for each arm, condition and seed, and before them a sweep of learning rates.

The size of each arm, its parameters and multiply-adds, is counted, so that arms can be checked to match.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vitral.base.errors import ConfigError
from vitral.base.lookup import import_object
from vitral.base.modes import evaluating
from vitral.store.code import is_code
from vitral.studies.code_fingerprint import fingerprint
from vitral.studies.effects import recorded_score
from vitral.studies.study import MATCHED, Arm, Budget, Condition, Measures, Preset, Quantity, Study, measure_nothing
from vitral.studies.training import RECIPE, Trained, Training, build_model, plain_values
from vitral.training.recipe import Recipe

# The first seed whose runs decide. The sweep uses seed 0, and those below 20 were used while designing the studies.
FIRST_SEED = 20
# Work is estimated in multiply-adds. A step of a tiny model costs about this much more per image than is counted ...
STEP_OVERHEAD = 1.5e6
# ... and a run costs this much besides its steps: generating the data, evaluation and measures.
RUN_OVERHEAD = 3e9


@dataclass(frozen=True)
class Size:
    """A model's parameters, and its multiply-adds for one image."""

    parameters: int
    macs: int


def count_size(model: str, settings: dict[str, Any], classes: int, image: tuple[int, int]) -> Size:
    """Parameters, and multiply-adds of all matrix products and convolutions for one image of (height, width)."""
    return cached_size(model, json.dumps(settings, sort_keys=True), classes, image)


@lru_cache(maxsize=256)
def cached_size(name: str, settings: str, classes: int, image: tuple[int, int]) -> Size:
    """`count_size` with settings as text, which can be a key of the cache."""
    # The meta device counts without computing. A reader's own model may create tensors on a fixed device, so it runs.
    device = "cpu" if is_code(name) else "meta"
    with torch.device(device):
        model = build_model(name, json.loads(settings), classes, image).to(device).requires_grad_(False)
        with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, *image, device=device))
    # PyTorch counts a multiplication and an addition as two operations.
    return Size(sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2)


@dataclass(frozen=True)
class Task:
    """One run: an arm on a condition with a seed. It holds everything that another process needs to do it.

    A run of the sweep is only trained, not measured.
    """

    study: str
    arm: str
    condition: str
    seed: int
    rate: float
    sweep: bool
    training: Training
    settings: Mapping[str, Any] = field(default_factory=dict)
    measure: Callable[[Trained], Measures] = measure_nothing
    alone: bool = False

    @property
    def name(self) -> str:
        words = f"{self.arm} {self.condition} seed {self.seed}" + (f" lr x {self.rate:g}" if self.sweep else "")
        return re.sub(r"[^a-z0-9.]+", "-", words.lower())

    @property
    def key(self) -> str:
        """The same for the same run by the same code."""
        content = {"training": self.training.key, "settings": dict(self.settings), "sweep": self.sweep}
        content["code"] = fingerprint(*self.modules)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose code determines the record, without those that they import."""
        module = self.measure.__module__
        ours = module.startswith("vitral.") and not self.sweep
        return (*self.training.modules, module.removeprefix("vitral.")) if ours else self.training.modules

    @property
    def size(self) -> Size:
        data, training = self.training.dataset(), self.training
        return count_size(training.model, dict(training.settings), len(data.classes), data.preprocessing.size)

    @property
    def work(self) -> float:
        """A rough count of multiply-adds, from which the remaining time is estimated."""
        # A backward pass takes about twice the work of a forward pass: three times in all.
        return RUN_OVERHEAD + 3 * self.training.samples * (self.size.macs + STEP_OVERHEAD)

    def path(self, home: Path) -> Path:
        return home / self.study / f"{self.name}.json"


def training_for(arm: Arm, condition: Condition, budget: Budget, seed: int, rate: float) -> Training:
    """The training of an arm at `rate` times its base learning rate."""
    recipe = dict(arm.recipe)
    recipe["lr"] = round(recipe.get("lr", 2e-3) * rate, 8)
    return Training(
        model=arm.model,
        settings=plain_values(arm.settings),
        data=condition.data,
        change=arm.change or condition.change,
        recipe=recipe,
        samples=round(arm.samples * condition.samples * budget.samples),
        seed=seed,
        loop=arm.loop,
        eval_images=budget.eval_images,
    )


def sweep_tasks(study: Study, budget: Budget) -> Iterator[Task]:
    """The trainings from which each arm's learning rate is chosen, all with seed 0."""
    condition = next((one for one in study.conditions if one.name == study.sweep), study.conditions[0])
    for arm in study.arms:
        if arm.samples and len(budget.rates) > 1 and arm.name not in budget.without:
            for rate in budget.rates:
                training = training_for(arm, condition, budget, 0, rate)
                yield Task(study.name, arm.name, condition.name, 0, rate, True, training)


def measured_tasks(study: Study, budget: Budget, rates: Mapping[str, float]) -> Iterator[Task]:
    """Every arm on every condition with every seed, each arm at its own learning rate."""
    for seed in range(FIRST_SEED, FIRST_SEED + budget.seeds):
        for condition in study.conditions:
            settings = plain_values(condition.settings)
            for arm in (one for one in study.arms if budget.includes(one, condition)):
                rate = rates.get(arm.name, 1.0)
                training = training_for(arm, condition, budget, seed, rate)
                run = study.name, arm.name, condition.name, seed, rate
                yield Task(*run, False, training, settings, study.measure, condition.alone)


@dataclass
class Plan:
    """A study's runs: first the sweep, then all others at the learning rates that it chose. It collects the records."""

    study: Study
    budget: Budget
    sweep: list[Task]
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def rates(self) -> dict[str, float]:
        """For each arm the rate with the best score on validation images; among equals, the one nearest to 1."""
        best: dict[str, tuple[float, float, float]] = {}
        for task in self.sweep:
            record = self.records[task.name]
            score = recorded_score(record["record"], "val") if record["status"] == "done" else -1.0
            candidate = score, -abs(math.log(task.rate)), task.rate
            best[task.arm] = max(best.get(task.arm, (-2.0, 0.0, 1.0)), candidate)
        return {arm: rate for arm, (_, _, rate) in best.items()}

    @property
    def sweep_is_done(self) -> bool:
        return all(task.name in self.records for task in self.sweep)

    def tasks(self) -> list[Task]:
        """All runs. Until the sweep is done, those after it have rates that may still change."""
        return [*self.sweep, *measured_tasks(self.study, self.budget, self.rates if self.sweep_is_done else {})]


def plan_study(study: Study, preset: Preset) -> Plan:
    """Raises `ConfigError` for arms whose sizes differ, `UsageError` for settings that cannot be trained."""
    limited, budget = study.limited_to(preset), study.budgets[preset]
    for arm in limited.arms:
        check_trainable(arm)
    plan = Plan(limited, budget, list(sweep_tasks(limited, budget)))
    check_arms_match(plan)
    return plan


def check_trainable(arm: Arm) -> None:
    """Raise `UsageError` for an invalid recipe or an unknown loop."""
    Recipe(**(RECIPE | dict(arm.recipe)))
    if arm.loop:
        import_object(arm.loop, within="studies")


def check_arms_match(plan: Plan) -> None:
    """Raise `ConfigError` unless, on each condition, every arm without `unmatched` is as large as the first."""
    tasks = [task for task in measured_tasks(plan.study, plan.budget, {}) if task.seed == FIRST_SEED]
    matched = {arm.name for arm in plan.study.arms if not arm.unmatched}
    for condition in plan.study.conditions:
        sizes = [(task.arm, task.size) for task in tasks if task.condition == condition.name and task.arm in matched]
        if sizes:
            check_sizes_match(sizes[0], sizes[1:], plan.study.matched)


def check_sizes_match(
    reference: tuple[str, Size], others: Sequence[tuple[str, Size]], quantities: Sequence[Quantity] = tuple(MATCHED)
) -> None:
    """Raise `ConfigError` for an arm whose size differs from the reference's by more than is allowed."""
    name, size = reference
    for other, found in others:
        for quantity in quantities:
            words, most = MATCHED[quantity]
            expected, counted = getattr(size, quantity), getattr(found, quantity)
            difference = abs(counted / expected - 1)
            if difference > most:
                raise ConfigError(
                    f"The arm {other!r} has {counted:,} {words} and {name!r} has {expected:,}, a difference of "
                    f"{difference:.1%}; a fair comparison allows at most {most:.0%}. Change its width or its MLP, or "
                    "give the reason in `unmatched`."
                )
