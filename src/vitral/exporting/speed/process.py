"""Start the process of a way and ask it."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitral.base.errors import Failure
from vitral.exporting.speed.way import Device


def cores() -> int:
    """The processors that a process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class WayFailed(Failure):
    """A way could not be prepared, or its process ended."""


@dataclass(frozen=True)
class Setup:
    """What all processes share: the model by its name (else saved in the folder), the folder, the device."""

    spec: str
    code: str | None
    folder: Path
    device: Device


class WayProcess:
    """One way of running a model, in a process of its own, which ends with the `with` block."""

    def __init__(self, way: str, setup: Setup):
        # -P: a file in the current folder must not shadow a library. What this process can import, the other can.
        path = os.pathsep.join(filter(None, sys.path))
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "vitral.exporting.speed.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for this process, which ends the other
        )
        try:
            self.ask("start", way_name=way, **vars(setup))
        except BaseException:
            self.close()
            raise

    def ask(self, command: str, **settings: Any) -> Any:
        """The reply to a command. Raises `WayFailed` with the reason, in one line."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        try:
            pickle.dump((command, settings), stdin)
            stdin.flush()
            done, found = pickle.load(stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise WayFailed(self.how_it_ended()) from None
        if not done:
            raise WayFailed(found)
        return found

    def how_it_ended(self) -> str:
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return "the system ended its process, most likely because memory ran out"
        self.errors.seek(0)
        lines = self.errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        if code < 0:
            return f"its process crashed ({signal.Signals(-code).name})"
        return f"its process ended: {lines[-1] if lines else f'exit code {code}'}"

    def __enter__(self) -> "WayProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if stream:
                    stream.close()
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):  # with what it has started: a compiler runs in processes of its own
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        self.process.wait()
        self.errors.close()
