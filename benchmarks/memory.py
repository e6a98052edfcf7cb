"""The most memory that a process has held."""

from pathlib import Path


def peak() -> int:
    """Bytes resident at most since this process began, from Linux's own account (`VmHWM`).

    Not `ru_maxrss`, which a new process takes over from the one that started it.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
