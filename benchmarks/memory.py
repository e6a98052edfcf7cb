"""The memory that a process has held: the most so far, and its anonymous memory now and at most within a block."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVERY = 0.01  # seconds between two looks at the anonymous memory


def status(name: str) -> int:
    """Bytes that Linux's own account of this process says under a name."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def peak() -> int:
    """Bytes resident at most since this process began (`VmHWM`).

    Not `ru_maxrss`, which a new process takes over from the one that started it.
    """
    return status("VmHWM")


def anonymous() -> int:
    """Bytes resident now that no file backs (`RssAnon`): a memory-mapped file does not count."""
    return status("RssAnon")


@contextmanager
def most_anonymous() -> Iterator[list[int]]:
    """A list whose last element is the most anonymous memory within the block, once that has ended."""
    found, ended = [anonymous()], threading.Event()

    def look() -> None:
        while not ended.wait(EVERY):
            found[-1] = max(found[-1], anonymous())

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield found
    finally:
        ended.set()
        looking.join()
