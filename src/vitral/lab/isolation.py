"""Check the reader's file in a process of its own, with limits on time and memory.

The file may loop for ever, crash the interpreter or exit: whatever it does, the caller gets a report.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from vitral.lab.report import Report
from vitral.lab.source_check import check_source, read_prediction

SECONDS = 30.0  # that a file may run
STARTING = 60.0  # extra seconds, for the import of torch on a busy machine
SHOWN = 2_000  # characters of what a file prints


def check_file(name: str, path: Path, seconds: float = SECONDS) -> Report:
    """Return the report on a reader's file, whatever the file does."""
    if report := check_source(name, path):
        return report
    with tempfile.TemporaryDirectory(prefix="vitral-lab-") as temporary:
        result, trace, printed = (Path(temporary) / part for part in ("result.json", "trace.txt", "printed.txt"))
        # -P: files in the reader's folder must not shadow the modules that the worker itself imports.
        command = [sys.executable, "-P", "-m", "vitral.lab.worker", name, str(path.resolve())]
        # No bytecode beside the reader's files; docstrings are kept, since they hold the names of mistakes; and
        # nothing is buffered, so that what was printed before a crash is not lost.
        settings = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONOPTIMIZE": "", "PYTHONUNBUFFERED": "1"}
        # Output goes to a file rather than a pipe: a pipe would have to be drained while the process runs, and
        # would stay open as long as a child of the reader's code lives.
        with printed.open("wb") as stream:
            process = subprocess.Popen(
                [*command, str(result), str(trace), str(seconds)],
                cwd=path.resolve().parent,
                stdin=subprocess.DEVNULL,  # input() raises EOFError instead of waiting
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=os.environ | settings,
                start_new_session=True,  # a process group of its own, which can be killed as a whole
            )
            try:
                # The worker ends itself after `seconds`; this wait is for one that cannot.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=seconds + STARTING)
            finally:
                kill_group(process)
        output = printed.read_bytes()[: 10 * SHOWN].decode(errors="replace")
        # The worker writes the result last, so a file that is there is complete, whatever the exit code.
        if result.is_file():
            report = Report.from_json(result.read_text(encoding="utf-8"))
        else:
            report = Report("file", describe_end(path, trace, process.returncode, output, seconds))
            output = ""
        report.output = output if len(output) <= SHOWN else f"{output[:SHOWN]}\n... and more"
        report.prediction = read_prediction(path)
        return report


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and everything that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def describe_end(path: Path, trace: Path, code: int, output: str, seconds: float) -> str:
    """Return why the worker wrote no result: time, memory, a crash, or an exit by the reader's code."""
    lines = trace.read_text(errors="replace") if trace.is_file() else ""
    # The traceback runs from the innermost frame outwards: the first line in the reader's folder is where it stopped.
    where = re.search(rf'File "{re.escape(str(path.resolve().parent))}/([^"/]+)", line (\d+)', lines)
    place = f" It was at line {where[2]} of {where[1]}." if where else ""
    if "Timeout" in lines:
        return (
            f"{path.name} was stopped after {seconds:g} seconds.{place} Is there a loop that does not end, or one over "
            "pixels or patches? One operation on the whole tensor is faster."
        )
    if code == -signal.SIGKILL:
        return f"The system stopped {path.name}, most likely because it used too much memory.{place}"
    if code < 0:
        return f"{path.name} crashed Python ({signal.Signals(-code).name}).{place}"
    last = output.strip().splitlines()[-1] if output.strip() else f"exit code {code}"
    return f"{path.name} ended Python without a result ({last}).{place} Is there an os._exit, or a fork?"
