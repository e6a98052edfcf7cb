"""The parts of a training step, timed one after the other."""

import time
from typing import Literal

import torch

Part = Literal["waiting", "forward", "backward", "optimizer"]


class StepClock:
    """Adds up the seconds of each part of a step on a device.

    A GPU computes while Python goes on, so that a part is over only when the GPU has caught up: the clock waits for it.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.restart()

    def restart(self) -> None:
        """Start a step now, with no seconds in any part."""
        self.started = self.last = self.now()
        self.seconds: dict[Part, float] = {"waiting": 0.0, "forward": 0.0, "backward": 0.0, "optimizer": 0.0}

    def lap(self, part: Part) -> None:
        """Count the time since the last lap as this part's."""
        now = self.now()
        self.seconds[part] += now - self.last
        self.last = now

    @property
    def total(self) -> float:
        """Seconds from the start of the step to the last lap."""
        return self.last - self.started

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
