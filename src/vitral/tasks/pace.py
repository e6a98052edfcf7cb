"""How fast a training run goes, and how well: means over its last steps, and the time it takes."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vitral.training.fit import Evaluation
from vitral.training.steps import RECENT, Step

PARTS = ("forward", "backward", "optimizer")


class Pace:
    """The last steps of a run and all its evaluations, summed up for the log and for whoever watches."""

    def __init__(self, total: int, spent: float = 0.0, before: Sequence[Step] = (), stepping: float | None = 0.0):
        """For a resumed run, `spent` is the seconds that it had taken before, and `before` its last steps.

        `stepping` is how many of those seconds its steps took; None where that is not known.
        """
        self.total, self.spent, self.stepping = total, spent, stepping
        self.first = before[-1].number + 1 if before else 1
        self.recent: deque[Step] = deque(before, maxlen=RECENT)
        self.evaluations: list[Evaluation] = []
        self.started, self.computed = time.monotonic(), time.process_time()

    def take(self, step: Step) -> None:
        """Count one more step."""
        self.recent.append(step)
        if self.stepping is not None:
            self.stepping += step.seconds

    @property
    def seconds(self) -> float:
        """The time the run has taken, before and after it was resumed."""
        return self.spent + time.monotonic() - self.started

    @property
    def busy(self) -> float:
        """Processor time over the time since the start: below 1, other programs or a disk have kept this one waiting.

        With several threads it may be more than 1.
        """
        return (time.process_time() - self.computed) / max(1e-9, time.monotonic() - self.started)

    def record(self) -> dict[str, int | float]:
        """Means over the last steps, as `metrics.jsonl` has them.

        The parts of a step are shares of its time, `seconds` is the time of the run until now, and `stepping` is how
        much of it steps took.
        """
        images, seconds = sum(s.images for s in self.recent), sum(s.seconds for s in self.recent)
        answered = [s.correct for s in self.recent if s.correct is not None]
        correct = sum(answered) if answered else None
        return {
            "step": self.recent[-1].number,
            "train_loss": sum(s.loss * s.images for s in self.recent) / images,
            **({} if correct is None else {"train_accuracy": correct / images}),
            "lr": self.recent[-1].lr,
            "images_per_second": images / seconds,
            "waiting": sum(s.waiting for s in self.recent) / seconds,
            **self.parts(),
            "seconds": self.seconds,
            **({} if self.stepping is None else {"stepping": self.stepping}),
        }

    def parts(self) -> dict[str, float]:
        """The shares of the other parts of a step; none if some of these steps are of an older version."""
        steps = [asdict(step) for step in self.recent]
        seconds = sum(step["seconds"] for step in steps)
        if any(step[part] is None for step in steps for part in PARTS):
            return {}
        return {part: sum(step[part] for step in steps) / seconds for part in PARTS}

    def line(self) -> str:
        """The record and the remaining time, for a person."""
        now = self.record()
        step = self.recent[-1].number
        accuracy = f"accuracy {now['train_accuracy']:6.1%}   " if "train_accuracy" in now else ""
        left = int((self.total - step) * (self.seconds - self.spent) / (step - self.first + 1))
        return (
            f"step {step:>6,}/{self.total:,}   "
            f"loss {now['train_loss']:.3f}   {accuracy}"
            f"{now['images_per_second']:,.0f} images/s   waiting {now['waiting']:.0%}   "
            f"left {left // 60}:{left % 60:02d}"
        )


def spent_until(records: Sequence[Mapping[str, Any]], step: int) -> tuple[float, float | None]:
    """The seconds that a run had taken at a step, by its records, and how many of them its steps took.

    The second is None for a run of an older version.
    """
    known = [record for record in records if "images_per_second" in record and record["step"] <= step]
    last = max(known, key=lambda record: record["seconds"], default={"seconds": 0.0, "stepping": 0.0})
    return last["seconds"], last.get("stepping")
