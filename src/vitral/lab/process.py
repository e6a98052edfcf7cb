"""Run a check in a process of its own, with a limit on time and memory, and tell kindly what became of it."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from vitral.lab.reading import predicted, read
from vitral.lab.report import Report

SECONDS = 30.0  # that a file may run
STARTING = 60.0  # that libraries may take to load on a busy machine
PRINTED = 2_000  # characters of what a file prints


def checked(name: str, path: Path, seconds: float = SECONDS) -> Report:
    """The report on a reader's file. Whatever the file does, it is a report."""
    if found := read(name, path):
        return found
    with tempfile.TemporaryDirectory(prefix="vitral-lab-") as own:
        result, trace, printed = (Path(own) / part for part in ("result.json", "trace.txt", "printed.txt"))
        words = [sys.executable, "-P", "-m", "vitral.lab.inside", name, str(path.resolve())]
        with printed.open("wb") as output:
            process = subprocess.Popen(
                [*words, str(result), str(trace), str(seconds)],
                cwd=path.resolve().parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=seconds + STARTING)
            finally:
                stopped(process)
        said = printed.read_bytes()[: 10 * PRINTED].decode(errors="replace")
        if result.is_file():
            report = Report.from_json(result.read_text(encoding="utf-8"))
        else:
            report = Report("file", ended(path, trace, process.returncode, said, seconds))
            said = ""
        report.printed = said if len(said) <= PRINTED else f"{said[:PRINTED]}\n... and more"
        report.predicted = predicted(path)
        return report


def stopped(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it began."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ended(path: Path, trace: Path, code: int, said: str, seconds: float) -> str:
    """Why there is no result: time, memory, a crash, or an end of its own."""
    lines = trace.read_text(errors="replace") if trace.is_file() else ""
    where = re.search(rf'File "{re.escape(str(path.resolve().parent))}/([^"/]+)", line (\d+)', lines)
    place = f" At the end it stood in line {where[2]} of {where[1]}." if where else ""
    if "Timeout" in lines:
        return (
            f"{path.name} was stopped after {seconds:g} seconds.{place} Is there a loop that does not end, or one over "
            "numbers or patches? An operation on the whole tensor does the same at once."
        )
    if code == -signal.SIGKILL:
        return f"The system stopped {path.name}: most likely it took too much memory.{place}"
    if code < 0:
        return f"{path.name} crashed Python ({signal.Signals(-code).name}).{place}"
    last = said.strip().splitlines()[-1] if said.strip() else f"exit code {code}"
    return f"{path.name} ended Python without a result ({last}).{place} Is there an os._exit, or a fork?"
