"""Run studies: every run that has no up-to-date record, in several processes, in any order."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Literal

import torch

from vitral.base.errors import ConfigError
from vitral.studies.running.plan import Plan, Task
from vitral.studies.running.progress import ProgressTracker, RunFinished
from vitral.studies.running.records import execute, load_cached_record, lost_run

ATTEMPTS = 2  # at a run whose process died: perhaps it was another run that took all memory
Stale = Literal["rerun", "refuse"]
Attempt = tuple[Plan, Task, int]  # the last is the number of the attempt, from 1


def run(
    plans: Sequence[Plan],
    home: Path,
    models: Path,
    processes: int,
    threads: int,
    stale: Stale = "rerun",
    notify: Callable[[str], None] = lambda message: None,
) -> Iterator[RunFinished]:
    """Do every run that has no record in `home`, and yield each record; in the end the plans hold them all.

    Raises `ConfigError` for records by a different version of the code if `stale` is "refuse", `StoreError` if a record
    cannot be written.
    """
    progress = ProgressTracker(plans)
    unchecked = [(plan, task) for plan in plans for task in plan.sweep]  # for a cached record
    expanded: set[str] = set()  # studies whose sweep is done, so that their other runs are known
    notified: set[str] = set()
    queue: list[Attempt] = []
    active: dict[Future, Attempt] = {}
    pool = start_pool(processes, threads)
    try:
        while unchecked or queue or active or len(expanded) < len(plans):
            for plan, task in unchecked:
                record, changed = load_cached_record(task, home)
                if changed and stale == "refuse":
                    raise ConfigError(
                        f"{task.path(home)} was computed by a different version of the code ({changed} changed). Use "
                        "--stale rerun to compute it again, or another --out."
                    )
                if changed and plan.study.name not in notified:
                    notified.add(plan.study.name)
                    notify(
                        f"{plan.study.name}: running again what was computed by a different version of the code "
                        f"({changed} changed)"
                    )
                # A failed run is tried again: its reason may be gone (a full memory, a mistake in a reader's model).
                if record is not None and record["status"] != "failed":
                    plan.records[task.name] = record
                    yield progress.finished(task, record, cached=True)
                else:
                    queue.append((plan, task, 1))
            # A study's runs after its sweep depend on the learning rates that the sweep chose, so they are planned only
            # now; other studies' runs go on meanwhile.
            ready = [plan for plan in plans if plan.study.name not in expanded and plan.sweep_is_done]
            expanded |= {plan.study.name for plan in ready}
            unchecked = [(plan, task) for plan in ready for task in plan.tasks() if not task.sweep]
            if unchecked:
                continue
            while len(active) < processes and (
                following := next((one for one in queue if may_start(one, active)), None)
            ):
                queue.remove(following)
                try:
                    future = pool.submit(execute, following[1], home, models)
                except BrokenProcessPool:  # a process has just died; the runs under way learn of it below
                    queue.insert(0, following)
                    break
                active[future] = following
            if queue and not active:  # it died with no run under way
                stop_pool(pool)
                pool = start_pool(processes, threads)
                continue
            done, _ = wait(active, return_when=FIRST_COMPLETED)
            for future in done & active.keys():
                try:
                    finished = [(*active[future], future.result())]
                    del active[future]
                except BrokenProcessPool:
                    # One dead process breaks the whole pool, and does not say which run killed it: all runs under way
                    # count an attempt. Those with attempts left are queued again, the others are recorded as lost.
                    interrupted, active = list(active.values()), {}
                    stop_pool(pool)
                    pool = start_pool(processes, threads)
                    queue += [(plan, task, attempt + 1) for plan, task, attempt in interrupted if attempt < ATTEMPTS]
                    finished = [(*one, lost_run(one[1])) for one in interrupted if one[2] >= ATTEMPTS]
                for plan, task, _, record in finished:
                    plan.records[task.name] = record
                    yield progress.finished(task, record, cached=False)
                if not active:
                    break
    finally:
        stop_pool(pool)


def may_start(attempt: Attempt, active: dict[Future, Attempt]) -> bool:
    """Whether a run may start beside those under way.

    Not if another trains the same model, whose result it can use, nor if either of them needs the machine to itself.
    """
    task, others = attempt[1], [other for _, other, _ in active.values()]
    if others and (task.alone or any(other.alone for other in others)):
        return False
    return all(other.training.key != task.training.key for other in others)


def start_pool(processes: int, threads: int) -> ProcessPoolExecutor:
    """A pool of fresh processes. A forked process would share locks that PyTorch's threads may hold."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=prepare_worker, initargs=(threads,))


def stop_pool(pool: ProcessPoolExecutor) -> None:
    """End all processes of a pool at once; `shutdown` alone would wait for runs that are under way."""
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def prepare_worker(threads: int) -> None:
    """Leave interrupts to the parent, end with the parent, and use this many threads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


def exit_with_parent() -> None:
    """A parent that was killed cannot stop its processes: they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
