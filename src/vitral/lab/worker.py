"""The process that runs the reader's file: `python -m vitral.lab.worker STATION FILE RESULT TRACE SECONDS`.

It writes the report to RESULT. If time runs out or Python crashes, it writes the traceback to TRACE and ends.
"""

import faulthandler
import os
import sys
from pathlib import Path

MEMORY = 3 * 2**30  # bytes that a file may use in addition to the libraries


def main(name: str, file: str, result: str, trace: str, seconds: str) -> None:
    # Imported here, before the clock starts and the limit on memory is set: the libraries are not the reader's.
    import torch

    from vitral.base.errors import UsageError
    from vitral.lab.report import Report
    from vitral.lab.stages import check_answer
    from vitral.lab.station import load_stations
    from vitral.store.code import describe_error, run_file

    torch.set_num_threads(1)
    station = load_stations()[name]
    with Path(trace).open("w") as lines:
        # faulthandler runs in a thread that needs no interpreter lock: it stops even a loop inside a C extension,
        # where a signal handler written in Python would never be called.
        faulthandler.enable(lines)
        faulthandler.dump_traceback_later(float(seconds), exit=True, file=lines)
        limit_memory()
        try:
            report = check_answer(station, run_file(Path(file)))
        except UsageError as error:
            report = Report("file", str(error))
        except MemoryError:
            report = Report("file", f"{Path(file).name} needs more memory than is allowed.")
        except BaseException as error:  # SystemExit or KeyboardInterrupt, raised by the reader's code
            if isinstance(error, Exception):  # a fault of the lab itself, which must not look like the reader's
                raise
            message = describe_error(error, Path(file)).rstrip(".")
            report = Report("file", f"{Path(file).name} ends Python ({message}). Remove that, and return the result.")
        faulthandler.cancel_dump_traceback_later()
    Path(result).write_text(report.to_json(), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # a thread that the file started may run for ever, and a normal exit would wait for it


def limit_memory() -> None:
    """Limit further memory to `MEMORY`, on systems that support it."""
    try:
        import resource
    except ImportError:  # Windows
        return
    pages = Path("/proc/self/statm")
    if pages.is_file():
        # The limit is on address space, of which the loaded libraries have mapped far more than they use.
        mapped = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(*sys.argv[1:])
