"""How much memory there is for this process, and how much it has taken; None where the system does not say.

A limit may be the machine's, that of a control group (a container, a batch job), or that of `ulimit -v`.
"""

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Files of a control group by the name of its controllers in /proc/self/cgroup: version 2 has no name there.
FILES = {
    "memory": (GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    "": (GROUPS, "memory.max", "memory.current", "inactive_file"),
}


# What PyTorch's allocators say, for which it has no class of error.
WORDS = ("can't allocate memory", "bad_alloc", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated, on a CPU or a GPU."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    said = any(words in str(error) for words in WORDS)
    return isinstance(error, RuntimeError) and (said or type(error).__name__ == "OutOfMemoryError")  # PyTorch's


def peak_resident() -> int | None:
    """The most bytes of this process that were in memory at once, with the parts of files that it maps.

    Not `getrusage`, which on Linux counts the process that started this one, too.
    """
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes there
    return fields(PROC / "self/status").get("VmHWM")


def anonymous_resident() -> int | None:
    """Bytes of this process that are in memory now and that no file backs; None but on Linux."""
    return fields(PROC / "self/status").get("RssAnon")


def total_memory() -> int | None:
    """Bytes that no process can go beyond, with the swap space: those of the machine, or a smaller limit."""
    machine = fields(PROC / "meminfo")
    if "MemTotal" not in machine:
        return None
    swap = machine.get("SwapTotal", 0)
    limits = [limit + swap for limit, _ in group_limits()]
    return min([machine["MemTotal"] + swap, *limits, *address_space()])


def available_memory() -> int | None:
    """Bytes that this process can still take without swapping, within the limits of its control groups.

    Beyond these the system ends it; beyond `address_space` it gets an error.
    """
    machine = fields(PROC / "meminfo")
    if "MemAvailable" not in machine:
        return None
    return max(0, min([machine["MemAvailable"], *(limit - used for limit, used in group_limits())]))


def address_space() -> list[int]:
    """The limit of `ulimit -v` in bytes, if there is one."""
    if sys.platform == "win32":
        return []
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if limit == resource.RLIM_INFINITY else [limit]


def group_limits() -> Iterator[tuple[int, int]]:
    """Limit and use, in bytes, of each control group that this process is in; cached files do not count as use."""
    for line in read(PROC / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in FILES:
            continue
        mount, limit, used, cached = FILES[controllers]
        own = mount / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(mount) and read(folder / limit).strip().isdigit():
                stat = dict(each.split() for each in read(folder / "memory.stat").splitlines())
                yield int(read(folder / limit)), int(read(folder / used) or 0) - int(stat.get(cached, 0))


def fields(path: Path) -> dict[str, int]:
    """The bytes of each field of a file such as /proc/meminfo, whose lines are `MemTotal: 24683652 kB`."""
    lines = [line.split() for line in read(path).splitlines()]
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[-1:] == ["kB"] and len(words) == 3}


def read(path: Path) -> str:
    """The text of a file; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def in_words(count: int | float) -> str:
    """Bytes for people.

    >>> in_words(912e6), in_words(23.44e9), in_words(1.31e6)
    ('912 MB', '23.4 GB', '1.3 MB')
    """
    unit, size = ("GB", 1e9) if count >= 1e9 else ("MB", 1e6) if count >= 1e6 else ("kB", 1e3)
    return f"{count / size:,.{0 if size < 1e9 and count >= 10 * size else 1}f} {unit}"
