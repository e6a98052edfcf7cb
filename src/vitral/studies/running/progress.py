"""How much of the work is done, how long the rest takes, and how long studies will take on this machine."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitral.studies.arms import VIT
from vitral.studies.running.plan import Plan, Task, training_for
from vitral.studies.study import Budget, Condition
from vitral.studies.training import train


@dataclass(frozen=True)
class RunFinished:
    """A record, whether it was cached, and the progress: (done, all) runs and work, and the work done just now."""

    record: dict[str, Any]
    cached: bool
    runs: tuple[int, int]
    work: tuple[float, float]
    work_now: float


class ProgressTracker:
    """How much of all runs is done, in runs and in work."""

    def __init__(self, plans: Sequence[Plan]):
        self.work = {(task.study, task.name): task.work for plan in plans for task in plan.tasks()}
        self.done: set[tuple[str, str]] = set()
        self.work_now = 0.0

    def finished(self, task: Task, record: dict[str, Any], cached: bool) -> RunFinished:
        run = (task.study, task.name)
        self.work.setdefault(run, task.work)
        self.done.add(run)
        self.work_now += 0.0 if cached else self.work[run]
        done = sum(self.work[one] for one in self.done)
        runs = len(self.done), len(self.work)
        return RunFinished(record, cached, runs, (done, sum(self.work.values())), self.work_now)


def measure_speed() -> float:
    """Multiply-adds per second of one process, as `Task.work` counts them: a short training, timed."""
    training = training_for(VIT, Condition("plain", "shapes:n=2000"), Budget(4_096, 1), seed=0, rate=1.0)
    start = time.perf_counter()
    train(training)
    return Task("", "vit", "plain", 0, 1.0, True, training).work / (time.perf_counter() - start)


def estimate_minutes(plans: Sequence[Plan], processes: int) -> dict[str, float]:
    """How long each study takes on this machine, without what is cached."""
    speed = measure_speed() * processes
    return {plan.study.name: sum(task.work for task in plan.tasks()) / speed / 60 for plan in plans}
