"""How fast a training run goes, and how well: means over its last steps, and the time it takes."""

import time
from collections import deque
from collections.abc import Sequence

from vitral.training.fit import Evaluation
from vitral.training.steps import RECENT, Step


class Pace:
    """The last steps of a run and all its evaluations, summed up for the log and for whoever watches."""

    def __init__(self, total: int, spent: float = 0.0, before: Sequence[Step] = ()):
        """For a resumed run, `spent` is the seconds that it had taken before, and `before` its last steps."""
        self.total, self.spent = total, spent
        self.first = before[-1].number + 1 if before else 1
        self.recent: deque[Step] = deque(before, maxlen=RECENT)
        self.evaluations: list[Evaluation] = []
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """The time the run has taken, before and after it was resumed."""
        return self.spent + time.monotonic() - self.started

    def record(self) -> dict[str, int | float]:
        """Means over the last steps, as `metrics.jsonl` has them; `waiting` is the share of time spent on batches."""
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
            "seconds": self.seconds,
        }

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
