"""The most memory that a process holds while it runs a model."""

import threading
import time
from collections.abc import Callable

import torch

from vitral.base.memory import anonymous_resident
from vitral.exporting.speed.way import Device

EVERY = 0.002  # seconds between two looks
SECONDS = 0.3  # of passes, or at least two


def peak_memory(forward: Callable[[], object], device: Device) -> int | None:
    """The most bytes while passes run: on a GPU what PyTorch has allocated, else memory that no file backs.

    None where the system does not say.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        forward()
        return int(torch.cuda.max_memory_allocated())
    if anonymous_resident() is None:
        return None
    found, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(EVERY):
            found.append(anonymous_resident() or 0)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    start, passes = time.perf_counter(), 0
    try:
        while passes < 2 or time.perf_counter() - start < SECONDS:
            forward()
            passes += 1
            found.append(anonymous_resident() or 0)
    finally:
        ended.set()
        looking.join()
    return max(found)
