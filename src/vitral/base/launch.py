"""How many processes train together, by the environment that torchrun and other launchers set.

PyTorch's contract: RANK (of this process, from 0), WORLD_SIZE (how many there are), LOCAL_RANK (of this process on its
machine), MASTER_ADDR and MASTER_PORT (where process 0 is reached). torchrun adds LOCAL_WORLD_SIZE, TORCHELASTIC_RUN_ID
and TORCHELASTIC_RESTART_COUNT.
"""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vitral.base.errors import UsageError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
TIMEOUT = 300.0  # seconds
VARIABLE = "VITRAL_TIMEOUT"  # of the environment: other seconds


@dataclass(frozen=True)
class Launch:
    """This process is number `rank` of `size`, and `local_rank` on its machine; process 0 is reached at `address`.

    Processes wait for one another for `timeout` seconds: to meet at the start, and in each step. `job` is one torchrun
    on one machine, empty for other launchers; `restarts` is how often it has started its processes again.
    """

    rank: int
    size: int
    local_rank: int
    address: str
    timeout: float = TIMEOUT
    job: str = ""
    restarts: int = 0


def find_launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """What the launcher has set; None if this process was started without one.

    Raises `UsageError` for variables that are missing, or that contradict one another.
    """
    if "WORLD_SIZE" not in environment and "RANK" not in environment:
        return None
    missing = [name for name in NAMES if not environment.get(name)]
    if environment.get("WORLD_SIZE") == "1" and environment.get("RANK", "0") == "0":
        missing = []  # one process meets nobody
    if missing:
        known = [f"{name}={environment[name]}" for name in NAMES if environment.get(name)]
        raise UsageError(
            f"The environment has {', '.join(known) or 'an empty WORLD_SIZE'}, but no {', '.join(missing)}. Start "
            f"several processes with torchrun, which sets all of {', '.join(NAMES)}; unset them to train in one "
            "process."
        )
    rank, size, local_rank, port = (
        whole_number(environment, name, default)
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("MASTER_PORT", "1"))
    )
    if not (size and rank < size and local_rank <= rank and 0 < port < 2**16):
        raise UsageError(
            f"RANK={rank}, WORLD_SIZE={size}, LOCAL_RANK={local_rank} and MASTER_PORT={port} do not fit together: RANK "
            "must be below WORLD_SIZE, LOCAL_RANK at most RANK, and MASTER_PORT from 1 to 65535."
        )
    try:
        timeout = float(environment.get(VARIABLE) or TIMEOUT)
        if not 0 < timeout < 1e7:
            raise ValueError
    except ValueError:
        raise UsageError(f"{VARIABLE}={environment[VARIABLE]} must be a number of seconds, above 0.") from None
    return Launch(
        rank,
        size,
        local_rank,
        f"{environment.get('MASTER_ADDR')}:{port}",
        timeout,
        job_of(environment.get("TORCHELASTIC_RUN_ID")),
        whole_number(environment, "TORCHELASTIC_RESTART_COUNT", "0"),
    )


def whole_number(environment: Mapping[str, str], name: str, default: str) -> int:
    """A variable that is a whole number from 0. Raises `UsageError` for another one."""
    value = environment.get(name) or default
    if not (value.isascii() and value.isdigit()):
        raise UsageError(f"{name}={value} must be a whole number, from 0.")
    return int(value)


def job_of(run_id: str | None) -> str:
    """The torchrun that started this process: its job id is "none" unless the user gives one, so its process counts.

    Empty without a job id.
    """
    if not run_id:
        return ""
    parent, begun = os.getppid(), ""
    with suppress(OSError):  # Linux only: the clock ticks at which it began, as process ids are used again
        begun = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    return " ".join(filter(None, (run_id, socket.gethostname(), str(parent), begun)))
