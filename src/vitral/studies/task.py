"""One run of a study: a training, what is measured of the model, and the record that is kept of it."""

import hashlib
import json
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitral.base.errors import StoreError, VitralError
from vitral.base.files import write_file
from vitral.base.provenance import provenance
from vitral.studies.code import fingerprint, hashes
from vitral.studies.matching import Size, size_of
from vitral.studies.study import Arm, Budget, Condition, Measures, Study, no_measure
from vitral.studies.training import Trained, Training, plain, trained

OVERHEAD = 1.5e6  # multiply-adds that a step of a tiny model takes an image besides those that are counted
FIRST = 20  # seed that decides; those below are for trying
STARTING = 3e9  # the same for what a run takes besides its steps: its data, evaluation and measures


@dataclass(frozen=True)
class Task:
    """An arm on a condition with a seed; one of a sweep is only trained. Whole, so that another process can do it."""

    study: str
    arm: str
    condition: str
    seed: int
    rate: float
    sweep: bool
    training: Training
    settings: Mapping[str, Any] = field(default_factory=dict)
    measure: Callable[[Trained], Measures] = no_measure
    alone: bool = False

    @property
    def name(self) -> str:
        words = f"{self.arm} {self.condition} seed {self.seed}" + (f" lr x {self.rate:g}" if self.sweep else "")
        return re.sub(r"[^a-z0-9.]+", "-", words.lower())

    @property
    def key(self) -> str:
        content = {"training": self.training.key, "settings": dict(self.settings), "sweep": self.sweep}
        content["code"] = fingerprint(*self.code)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def code(self) -> tuple[str, ...]:
        """The modules that make it."""
        module = getattr(self.measure, "__module__", "")
        own = module.startswith("vitral.") and not self.sweep
        return (*self.training.code, module.removeprefix("vitral.")) if own else self.training.code

    @property
    def size(self) -> Size:
        data = self.training.dataset()
        return size_of(self.training.model, dict(self.training.settings), len(data.classes), data.preprocessing.size)

    @property
    def work(self) -> float:
        """Multiply-adds, roughly: what the time left is reckoned by."""
        return STARTING + 3 * self.training.samples * (self.size.macs + OVERHEAD)

    def path(self, home: Path) -> Path:
        return home / self.study / f"{self.name}.json"


def training_of(arm: Arm, condition: Condition, budget: Budget, seed: int, rate: float) -> Training:
    recipe = dict(arm.recipe)
    recipe["lr"] = round(recipe.get("lr", 2e-3) * rate, 8)
    return Training(
        model=arm.model,
        settings=plain(arm.settings),
        data=condition.data,
        change=arm.change or condition.change,
        recipe=recipe,
        samples=round(arm.samples * budget.samples),
        seed=seed,
        loop=arm.loop,
        judged=budget.judged,
    )


def swept(study: Study, budget: Budget) -> Iterator[Task]:
    """The trainings among which each arm's learning rate is chosen, all of one seed."""
    condition = next((one for one in study.conditions if one.name == study.sweep), study.conditions[0])
    for arm in study.arms:
        if arm.samples and len(budget.rates) > 1 and arm.name not in budget.without:
            for rate in budget.rates:
                training = training_of(arm, condition, budget, 0, rate)
                yield Task(study.name, arm.name, condition.name, 0, rate, True, training)


def measured(study: Study, budget: Budget, rates: Mapping[str, float]) -> Iterator[Task]:
    """Every arm on every condition with every seed, each at its own rate.

    Seeds begin at `FIRST`: those of the sweep, and of what was tried before the rules were set, decide nothing.
    """
    for seed in range(FIRST, FIRST + budget.seeds):
        for condition in study.conditions:
            for arm in study.arms:
                if not budget.has(arm, condition):
                    continue
                rate = rates.get(arm.name, 1.0)
                training = training_of(arm, condition, budget, seed, rate)
                yield Task(
                    study.name,
                    arm.name,
                    condition.name,
                    seed,
                    rate,
                    False,
                    training,
                    plain(condition.settings),
                    study.measure,
                    study.alone,
                )


def read_record(path: Path) -> dict[str, Any] | None:
    """A record; none if there is none, or if it is no record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if {"key", "code", "status", "sweep"} <= record.keys() else None
    except (ValueError, OSError, AttributeError):
        return None


def kept(task: Task, home: Path) -> tuple[dict[str, Any] | None, str]:
    """The record of a task that was done before, or what has changed since; neither if there is none."""
    record = read_record(task.path(home))
    if record is None or record["key"] == task.key:
        return record, ""
    then, now = record["code"], hashes(*task.code)
    changed = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return None, f"{', '.join(changed[:3])}{more}" if changed else "its settings"


def perform(task: Task, home: Path, models: Path) -> dict[str, Any]:
    """Train, measure, and keep the record. What fails is recorded with its reason, and is no reason to stop the others.

    Raises `StoreError` if the record cannot be written.
    """
    began = time.perf_counter()
    record: dict[str, Any] = {
        "study": task.study,
        "arm": task.arm,
        "condition": task.condition,
        "seed": task.seed,
        "rate": task.rate,
        "sweep": task.sweep,
        "key": task.key,
        "training": asdict(task.training),
        "status": "done",
    }
    try:
        found = trained(task.training, models, task.settings)
        record |= {"size": asdict(task.size), "record": found.record}
        if found.record["diverged"]:
            record |= {"status": "diverged", "why": found.record["why"]}
        elif not task.sweep:
            record["measures"] = dict(task.measure(found))
    except StoreError:
        raise
    except VitralError as error:
        record |= {"status": "failed", "why": str(error)}
    except Exception as error:  # whatever a reader's own model or a measure raises: the other runs go on
        where = traceback.extract_tb(error.__traceback__)[-1]
        record |= {
            "status": "failed",
            "why": f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})",
        }
    origin = provenance()
    record |= {"code": hashes(*task.code), "seconds": time.perf_counter() - began}
    record |= {"machine": origin["machine"], "versions": origin["versions"], "time": origin["time"]}
    write_file(task.path(home), json.dumps(record) + "\n")
    return record
