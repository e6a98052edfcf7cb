"""What the first of several processes tells the others to do, each order at the place where it needs them.

The first one reads the data, chooses, writes and reports as a process does that trains alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vitral.base.errors import VitralError
from vitral.base.numerics import Numerics
from vitral.training.processes import LostProcess, Processes
from vitral.training.recipe import Recipe


@dataclass(frozen=True)
class Prepare:
    """Read the data and the model; of a resumed run, from its folder. Then wait twice: see `read_in_turn`."""

    recipe: Recipe
    resumed: Path | None
    device: str


@dataclass(frozen=True)
class Measure:
    """Take some steps whose time is measured; if `compiled`, compile the model before."""

    recipe: Recipe
    numerics: Numerics
    compiled: bool = False


@dataclass(frozen=True)
class Fit:
    """Take the steps of the run in this folder; no other order follows."""

    recipe: Recipe
    numerics: Numerics
    run: Path
    resuming: bool


@dataclass(frozen=True)
class End:
    """Nothing is left to do."""

    exit_code: int
    run: Path | None = None


Order = Prepare | Measure | Fit | End


def tell(processes: Processes, order: Order) -> None:
    """Send an order to the other processes, if there are any."""
    if processes.size == 1:
        return
    processes.agreed(order)
    processes.released = isinstance(order, Fit | End)
    if isinstance(order, Prepare):
        for _ in range(2):
            processes.agreed(None)


@contextmanager
def leading(processes: Processes) -> Iterator[None]:
    """However the first process's work ends, the others are told, and do not wait for it."""
    code = 1
    try:
        yield
        code = 0
    except VitralError as error:
        code = error.exit_code
        raise
    finally:
        if not processes.released:
            with suppress(LostProcess):
                tell(processes, End(code))
