"""Do the runs of some studies: those that are not there yet, in several processes, in whatever order they get done."""

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from vitral.base.errors import ConfigError
from vitral.base.lookup import import_object
from vitral.studies.arms import VIT
from vitral.studies.matching import check_matched
from vitral.studies.study import Arm, Budget, Condition, Preset, Study
from vitral.studies.task import FIRST, Task, kept, measured, perform, swept, training_of
from vitral.studies.training import RECIPE, train
from vitral.training.recipe import Recipe

TRIES = 2  # of a run whose process ended, killed or out of memory, perhaps with another's
Stale = Literal["rerun", "refuse"]


@dataclass
class Plan:
    """A study's runs: first the sweep, then, at the rates that it chose, all the others."""

    study: Study
    budget: Budget
    sweep: list[Task]
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate that was best on validation data, for each arm; of equally good ones, that nearest to 1."""
        best: dict[str, tuple[float, float, float]] = {}
        for task in self.sweep:
            record = self.records[task.name]
            score = record["record"]["val_accuracy"] if record["status"] == "done" else -1.0
            found = score, -abs(math.log(task.rate)), task.rate
            best[task.arm] = max(best.get(task.arm, (-2.0, 0.0, 1.0)), found)
        return {arm: rate for arm, (_, _, rate) in best.items()}

    @property
    def swept(self) -> bool:
        return all(task.name in self.records for task in self.sweep)

    def tasks(self) -> list[Task]:
        """All the runs; before the sweep is done, at rates that may not be the last."""
        return [*self.sweep, *measured(self.study, self.budget, self.rates if self.swept else {})]


def planned(study: Study, preset: Preset) -> Plan:
    """Raises `ConfigError` for arms that are not alike or cannot be trained as they say."""
    own, budget = study.within(preset), study.budgets[preset]
    for arm in own.arms:
        check_trainable(arm)
    plan = Plan(own, budget, list(swept(own, budget)))
    compare(own, plan)
    return plan


def check_trainable(arm: Arm) -> None:
    """Raise `UsageError` for a recipe or a loop that is none."""
    Recipe(**(RECIPE | dict(arm.recipe)))
    if arm.loop:
        import_object(arm.loop, within="studies")


def compare(study: Study, plan: Plan) -> None:
    """Raise `ConfigError` unless each arm that says nothing else is as large as the first, on each condition."""
    tasks = [task for task in measured(study, plan.budget, {}) if task.seed == FIRST]
    alike = {arm.name for arm in study.arms if not arm.unmatched}
    for condition in study.conditions:
        sizes = [(task.arm, task.size) for task in tasks if task.condition == condition.name and task.arm in alike]
        if sizes:
            check_matched(sizes[0], sizes[1:])


@dataclass(frozen=True)
class Happened:
    """A run that is done, or was done before; how much of all the work that makes, and what of it was done now."""

    record: dict[str, Any]
    before: bool
    runs: tuple[int, int]
    work: tuple[float, float]
    now: float


def run(
    plans: Sequence[Plan],
    home: Path,
    models: Path,
    processes: int,
    threads: int,
    stale: Stale = "rerun",
    said: Callable[[str], None] = lambda text: None,
) -> Iterator[Happened]:
    """Do every run that has no record in `home`, and yield each record; the plans hold them all in the end.

    Raises `ConfigError` for records of other code where they are to be refused, `StoreError` if the disk refuses.
    """
    progress = Progressed(plans)
    waiting = [(plan, task) for plan in plans for task in plan.sweep]
    unfolded: set[str] = set()  # the studies whose runs after the sweep are among those that wait
    queue: list[tuple[Plan, Task, int]] = []
    flying: dict[Future, tuple[Plan, Task, int]] = {}
    pool = pool_of(processes, threads)
    told: set[str] = set()
    try:
        while waiting or queue or flying or len(unfolded) < len(plans):
            for plan, task in waiting:
                record, changed = kept(task, home)
                if changed and stale == "refuse":
                    raise ConfigError(
                        f"{task.path(home)} was made by other code: {changed} changed since. Run it again with "
                        "--stale rerun, or name another --out."
                    )
                if changed and plan.study.name not in told:
                    told.add(plan.study.name)
                    said(f"{plan.study.name}: records of other code are made again ({changed} changed)")
                if record is not None and record["status"] != "failed":
                    plan.records[task.name] = record
                    yield progress.happened(task, record, before=True)
                else:
                    queue.append((plan, task, 1))
            waiting = []
            for plan in plans:
                if plan.study.name not in unfolded and plan.swept:
                    unfolded.add(plan.study.name)
                    waiting += [(plan, task) for task in plan.tasks() if not task.sweep]
            if waiting:
                continue
            while len(flying) < processes and (ready := next((item for item in queue if free(item, flying)), None)):
                queue.remove(ready)
                flying[pool.submit(perform, ready[1], home, models)] = ready
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done & flying.keys():
                plan, task, tries = flying.pop(future)
                try:
                    record = future.result()
                except BrokenProcessPool:
                    # All that were under way ended with it; whose fault it was is not known.
                    lost, flying = [(plan, task, tries), *flying.values()], {}
                    pool.shutdown(wait=False, cancel_futures=True)
                    pool = pool_of(processes, threads)
                    queue += [(plan, task, tries + 1) for plan, task, tries in lost if tries < TRIES]
                    for plan, task, _ in (item for item in lost if item[2] >= TRIES):
                        plan.records[task.name] = ended(task)
                        yield progress.happened(task, plan.records[task.name], before=False)
                    break
                plan.records[task.name] = record
                yield progress.happened(task, record, before=False)
    finally:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def free(item: tuple[Plan, Task, int], flying: dict[Future, tuple[Plan, Task, int]]) -> bool:
    """Whether a run may start beside those under way: none makes the same model, none wants the machine for itself."""
    task, others = item[1], [other for _, other, _ in flying.values()]
    if others and (task.alone or any(other.alone for other in others)):
        return False
    return all(other.training.key != task.training.key for other in others)


def ended(task: Task) -> dict[str, Any]:
    """The record of a run that left none."""
    place = {"study": task.study, "arm": task.arm, "condition": task.condition, "seed": task.seed, "rate": task.rate}
    why = "its process ended: killed, or out of memory"
    return place | {"sweep": task.sweep, "status": "failed", "why": why, "seconds": 0.0}


def pool_of(processes: int, threads: int) -> ProcessPoolExecutor:
    """Processes that start from nothing: one that was forked would share what PyTorch's threads hold."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=begin, initargs=(threads,))


def begin(threads: int) -> None:
    """What a process does before its first run: an interrupt is its parent's to answer, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


def end_with_parent() -> None:
    """A parent that was killed can tell its processes nothing more: they would wait for it for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def speed() -> float:
    """Multiply-adds a second, as `Task.work` counts them, of one process on this machine: a short training, timed."""
    training = training_of(VIT, Condition("plain", "shapes:n=2000"), Budget(4_096, 1), seed=0, rate=1.0)
    before = time.perf_counter()
    train(training)
    return Task("", "vit", "plain", 0, 1.0, True, training).work / (time.perf_counter() - before)


class Progressed:
    """How much is done of all that is to be done."""

    def __init__(self, plans: Sequence[Plan]):
        self.all = {(task.study, task.name): task.work for plan in plans for task in plan.tasks()}
        self.done: set[tuple[str, str]] = set()
        self.now = 0.0
        self.began = time.monotonic()

    def happened(self, task: Task, record: dict[str, Any], before: bool) -> Happened:
        place = (task.study, task.name)
        self.all.setdefault(place, task.work)
        self.done.add(place)
        self.now += 0.0 if before else self.all[place]
        done = sum(self.all[one] for one in self.done)
        return Happened(record, before, (len(self.done), len(self.all)), (done, sum(self.all.values())), self.now)
