"""What runs in a process of its own: the reader's file, checked. `python -m vitral.lab.inside STATION FILE RESULT ...`

Nothing that the file does reaches the process that asked: it prints into a file, has so much memory, and if it does
not come to an end, the line where it stands is noted and the process ends.
"""

import faulthandler
import os
import sys
from pathlib import Path

MEMORY = 3 * 2**30  # bytes that a file may take beyond what the libraries take


def main(name: str, file: str, result: str, trace: str, seconds: str) -> None:
    import torch

    from vitral.base.errors import UsageError
    from vitral.lab.checking import check
    from vitral.lab.report import Report
    from vitral.lab.station import stations
    from vitral.store.code import describe_error, run_file

    torch.set_num_threads(1)
    station = stations()[name]
    with Path(trace).open("w") as lines:
        faulthandler.enable(lines)
        faulthandler.dump_traceback_later(float(seconds), exit=True, file=lines)
        limit_memory()
        try:
            report = check(station, run_file(Path(file)))
        except UsageError as error:
            report = Report("file", str(error))
        except MemoryError:
            report = Report("file", f"{Path(file).name} asked for more memory than there is.")
        except BaseException as error:  # SystemExit, KeyboardInterrupt: whatever a file may raise to be left alone
            if isinstance(error, Exception):  # a mistake of the lab's own
                raise
            said = describe_error(error, Path(file)).rstrip(".")
            report = Report("file", f"{Path(file).name} ended Python ({said}). Take that out, and return the result.")
        faulthandler.cancel_dump_traceback_later()
    Path(result).write_text(report.to_json(), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # a thread of the file's own may go on for ever


def limit_memory() -> None:
    """No more than `MEMORY` from here on, where the system can say so."""
    try:
        import resource
    except ImportError:  # Windows
        return
    pages = Path("/proc/self/statm")
    if pages.is_file():
        taken = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main(*sys.argv[1:])
