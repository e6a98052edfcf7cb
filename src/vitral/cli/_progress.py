"""What a person sees while a model trains: a live table on a terminal, plain lines elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vitral.cli import say
from vitral.training.fit import Evaluation
from vitral.training.steps import RECENT, Step

QUIET = 10.0  # seconds between plain lines


class Progress:
    """Rates over the last steps, and where they are shown."""

    def __init__(self, total: int, spent: float = 0.0, before: Sequence[Step] = ()):
        """`spent`: the seconds that the run had taken before it was resumed; `before`: the last steps it had taken."""
        self.total, self.spent = total, spent
        self.first = before[-1].number + 1 if before else 1
        self.recent: deque[Step] = deque(before, maxlen=RECENT)
        self.evaluations: list[Evaluation] = []
        self.began = self.printed = time.monotonic()
        console = Console(stderr=True)
        self.live = (
            Live(console=console, refresh_per_second=4, transient=False) if sys.stderr and sys.stderr.isatty() else None
        )

    @property
    def seconds(self) -> float:
        """How long the run has taken, in all its sessions."""
        return self.spent + time.monotonic() - self.began

    def record(self) -> dict[str, float]:
        """The last steps in numbers.

        Mean loss and accuracy, images a second, the share of time spent waiting for data.
        """
        images, seconds = sum(s.images for s in self.recent), sum(s.seconds for s in self.recent)
        return {
            "step": self.recent[-1].number,
            "train_loss": sum(s.loss * s.images for s in self.recent) / images,
            "train_accuracy": sum(s.correct for s in self.recent) / images,
            "lr": self.recent[-1].lr,
            "images_per_second": images / seconds,
            "waiting": sum(s.waiting for s in self.recent) / seconds,
            "seconds": self.seconds,
        }

    def stepped(self, step: Step) -> None:
        self.recent.append(step)
        if self.live:
            self.live.update(self.table())
        elif time.monotonic() - self.printed > QUIET:
            self.printed = time.monotonic()
            say(self.line())

    def evaluated(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)
        if self.live:
            self.live.update(self.table())
        else:
            self.printed = time.monotonic()
            say(f"{self.line()}   validation: loss {evaluation.loss:.3f}, accuracy {evaluation.accuracy:.1%}")

    def __enter__(self) -> "Progress":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def eta(self) -> str:
        now = self.recent[-1].number
        left = (self.total - now) * (self.seconds - self.spent) / (now - self.first + 1)
        return f"{int(left) // 60}:{int(left) % 60:02d}"

    def line(self) -> str:
        now = self.record()
        return (
            f"step {now['step']:>6,}/{self.total:,}   "
            f"loss {now['train_loss']:.3f}   accuracy {now['train_accuracy']:6.1%}   "
            f"{now['images_per_second']:,.0f} images/s   waiting {now['waiting']:.0%}   left {self.eta()}"
        )

    def table(self) -> Group:
        table = Table(box=None, padding=(0, 2), header_style="dim")
        for heading in ("step", "validation loss", "accuracy", ""):
            table.add_column(heading, justify="right")
        for done in self.evaluations[-12:]:
            table.add_row(f"{done.step:,}", f"{done.loss:.3f}", f"{done.accuracy:.1%}", "best" if done.best else "")
        bar = ProgressBar(total=self.total, completed=self.recent[-1].number if self.recent else 0, width=60)
        rows = Table.grid()
        rows.add_row(bar)
        rows.add_row(Text(self.line() if self.recent else ""))
        return Group(table, rows)


def counting(name: str) -> Callable[[int, int], None]:
    """Says every few seconds how many of so many are done, and how long the rest takes."""
    began = printed = time.monotonic()

    def counted(done: int, total: int) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed > QUIET:
            printed = now
            left = int((total - done) * (now - began) / done)
            say(f"{name}: {done:,}/{total:,} images   left {left // 60}:{left % 60:02d}")

    return counted
