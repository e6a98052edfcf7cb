"""A run whose processes were started by a launcher: they meet, and a launcher that starts them again finds the run.

job.txt in a run's folder says which launcher made it, and by which settings. `torchrun --max-restarts` starts all
processes again with the same command line, which says nothing of the run that they had begun.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from vitral.base.config import to_yaml
from vitral.base.errors import UsageError
from vitral.base.launch import Launch
from vitral.base.plural import one_or_many
from vitral.training.checkpoint import checkpoints
from vitral.training.processes import Processes
from vitral.training.recipe import Recipe

JOB = "job.txt"


@contextmanager
def processes_of(launch: Launch | None) -> Iterator[Processes]:
    """The processes of a launch, when all of them have come; one that trains alone without. Raises what `join` does."""
    if launch is None or launch.size == 1:
        yield Processes()
        return
    from vitral.training.distributed import join

    with join(launch) as processes:
        yield processes


def job_text(launch: Launch | None, recipe: Recipe) -> str:
    """The content of job.txt; empty for a launcher that starts nothing again."""
    return f"{launch.job}\n{sha256(to_yaml(recipe).encode()).hexdigest()}\n" if launch and launch.job else ""


def earlier_run(
    launch: Launch | None, out: Path | None, recipe: Recipe, note: Callable[[str], None] = lambda sentence: None
) -> tuple[Path | None, Path | None]:
    """The folder for a new run, and the one of a run to resume: that which these settings began before a restart.

    A run of this launcher that stopped before its first checkpoint is emptied, and begun again.
    """
    job = job_text(launch, recipe) if launch and launch.restarts else ""
    for run in [out] if out else sorted(Path("runs").glob("*")):
        if not job or not (run / JOB).is_file() or (run / JOB).read_text(encoding="utf-8") != job:
            continue
        if checkpoints(run / "checkpoints"):
            note(f"The launcher has started its processes again: {run} is resumed.")
            return None, run
        note(f"The launcher has started its processes again: {run}, which had no checkpoint yet, begins anew.")
        shutil.rmtree(run)
        return run, None
    return out, None


def follow_first(processes: Processes, stop: Callable[[], bool], cache: str) -> Path:
    """The part of a process that is not the first: it trains with the others, and writes and reports nothing."""
    from vitral.tasks.follow import follow
    from vitral.training.distributed import SeveralProcesses

    assert isinstance(processes, SeveralProcesses)
    return follow(processes, stop, cache)


def check_parts(processes: Processes, batch: int) -> None:
    """Raise `UsageError` for a batch of which some process would get nothing."""
    if batch < processes.size:
        raise UsageError(
            f"A batch of {one_or_many(batch, 'image')} cannot be divided over {processes.size} processes. Start fewer, "
            "or use a larger --batch-size, which counts the images of all processes."
        )


def processes_line(processes: Processes, batch: int) -> str:
    """How the work is divided; empty for one process."""
    if processes.size == 1:
        return ""
    low, more = divmod(batch, processes.size)
    threads = os.environ.get("OMP_NUM_THREADS")
    known = f"; OMP_NUM_THREADS={threads}" if threads else ""
    return f"{processes.size} processes, each with {low}{f' or {low + 1}' if more else ''} images of a step{known}"
