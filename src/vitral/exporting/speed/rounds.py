"""Measure several ways in turns: what the machine does meanwhile hits all of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from vitral.base.record import ModelRecord
from vitral.exporting.speed.agreement import AnswersAgree, answers_agree
from vitral.exporting.speed.process import Setup, WayFailed, WayProcess, cores
from vitral.exporting.speed.statistics import FEWEST, percentile
from vitral.exporting.speed.way import Way

ROUNDS = 12  # that a budget is divided into, if passes are short enough
MOST = 100  # passes of a turn
TRIAL = 0.2  # seconds for which a number of threads is tried, or two passes


@dataclass
class Turns:
    """One way at one batch: with how many threads, in how many passes per round, and what was measured."""

    way: str
    process: WayProcess
    batch: int
    threads: int
    pass_seconds: float
    memory: int | None
    passes: int = 1
    rounds: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass
class Candidate:
    """A way that is ready to be measured."""

    way: Way
    turns: list[Turns]
    agreement: AnswersAgree | None


def prepare(
    way: Way,
    setup: Setup,
    batches: Sequence[int],
    threads: int | None,
    reference: Float[np.ndarray, "n k ..."] | None,
    record: ModelRecord,
    stack: ExitStack,
) -> Candidate:
    """Open a way in a process that `stack` ends; find its threads, its memory, and how far its answers agree.

    Raises `WayFailed` if it does not run.
    """
    if way.write is not None:
        with WayProcess(way.name, setup) as writing:
            writing.ask("write")
    process = stack.enter_context(WayProcess(way.name, setup))
    settings = (threads,) if threads else thread_settings(cores())
    if not way.any_threads or setup.device == "cuda":
        settings = settings[-1:]
    # The memory of a larger batch stays with the process: smaller ones come first, and nothing before.
    memory = {batch: process.ask("memory", threads=settings[-1], batch=batch) for batch in batches}
    turns = []
    for batch in batches:
        best, seconds = best_threads(process, batch, settings)
        turns.append(Turns(way.name, process, batch, best, seconds, memory[batch]))
    process.ask("keep", threads=[turn.threads for turn in turns])
    if reference is None:
        return Candidate(way, turns, None)
    answers = process.ask("answers", threads=turns[-1].threads)
    return Candidate(way, turns, answers_agree(reference, answers, record))


def thread_settings(cores: int) -> tuple[int, ...]:
    """The numbers of threads to try: all up to 4, then powers of two, half of the cores and all of them.

    >>> thread_settings(2), thread_settings(24)
    ((1, 2), (1, 2, 3, 4, 8, 12, 16, 24))
    """
    powers = {2**n for n in range(2, cores.bit_length())}
    return tuple(sorted({*range(1, min(cores, 4) + 1), *powers, max(1, cores // 2), cores}))


def best_threads(process: WayProcess, batch: int, settings: tuple[int, ...]) -> tuple[int, float]:
    """The number of threads with the shortest pass, and its seconds."""
    first = min(process.ask("time", threads=settings[-1], batch=batch, passes=1))
    passes = max(2, min(20, int(TRIAL / first)))
    seconds = {threads: min(process.ask("time", threads=threads, batch=batch, passes=passes)) for threads in settings}
    best = min(seconds, key=lambda threads: seconds[threads])
    return best, seconds[best]


def plan(turns: list[Turns], seconds: float) -> int:
    """How many rounds fit into these seconds, at least 6; sets the passes of each turn."""
    share = seconds / ROUNDS / len(turns)
    for turn in turns:
        # One more pass of each turn is not counted.
        turn.passes = max(1, min(MOST, int(share / turn.pass_seconds) - 1))
    return max(FEWEST, min(ROUNDS, int(seconds / round_seconds(turns))))


def round_seconds(turns: list[Turns]) -> float:
    return sum(turn.pass_seconds * (turn.passes + 1) for turn in turns)


def measure(turns: list[Turns], rounds: int, seconds: float, count: Callable[[int, int], None]) -> Mapping[str, str]:
    """Take all turns in each round, every second round in reverse; ways that failed on the way, with the reason.

    After `seconds` it ends with the round, but not before the 6th. `count` takes how many turns are done, and of how
    many.
    """
    failed: dict[str, str] = {}
    done, total, start = 0, rounds * len(turns), time.monotonic()
    count(0, total)
    for number in range(rounds):
        if number >= FEWEST and time.monotonic() - start > seconds:
            break
        for turn in turns if number % 2 else reversed(turns):
            done += 1
            if turn.way in failed:
                continue
            try:
                found = turn.process.ask("time", threads=turn.threads, batch=turn.batch, passes=turn.passes)
            except WayFailed as error:
                failed[turn.way] = str(error)
                continue
            turn.seconds += found
            turn.rounds.append(percentile(found, 0.5))
            count(done, total)
    return failed
