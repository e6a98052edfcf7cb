"""What a task reports while it works: `Progress` shows nothing, `ConsoleProgress` shows it on standard error.

On a terminal that is a live table or line; elsewhere, in a pipe or a notebook, a plain line every few seconds.
"""

import math
import sys
import time
from typing import TYPE_CHECKING

from vitral.base.console import say

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from vitral.tasks.pace import Pace
    from vitral.training.fit import Evaluation

QUIET = 10.0  # seconds between plain lines


class Progress:
    """Takes the reports of a task and shows nothing; subclass it to show them in your own way.

    `notes` collects the sentences that the user should know, such as what was assumed or left out.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Report a sentence that the user should know."""
        self.notes.append(text)

    def count(self, what: str, done: int, total: int) -> None:
        """Report that `done` of `total` parts of a job are finished."""

    def stepped(self, pace: "Pace") -> None:
        """Report a training step."""

    def evaluated(self, pace: "Pace") -> None:
        """Report an evaluation on the validation images."""

    def close(self) -> None:
        """End a live display; the next report opens a new one."""


class ConsoleProgress(Progress):
    """Shows every report on standard error."""

    def __init__(self) -> None:
        super().__init__()
        self.live: Live | None = None
        self.on_terminal = bool(sys.stderr and sys.stderr.isatty())
        self.counted, self.first, self.started, self.printed = 0, 0, 0.0, time.monotonic()

    def note(self, text: str) -> None:
        super().note(text)
        say(text)

    def count(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done <= self.counted or not self.started:  # another job; one that is continued does not begin at 0
            self.started, self.first = now, done
        self.counted = done
        line = f"{what}: {done:,}/{total:,}"
        if done > self.first:  # before, nothing is known of the time it takes
            left = int((total - done) * (now - self.started) / (done - self.first))
            line += f"   left {left // 60}:{left % 60:02d}"
        if self.on_terminal:
            self.show(line)
        elif done and now - max(self.printed, self.started) > QUIET:
            self.printed = now
            say(line)
        if done == total:
            self.close()

    def stepped(self, pace: "Pace") -> None:
        if self.on_terminal:
            self.show(table(pace))
        elif time.monotonic() - self.printed > QUIET:
            self.printed = time.monotonic()
            say(pace.line())

    def evaluated(self, pace: "Pace") -> None:
        if self.on_terminal:
            return self.show(table(pace))
        self.printed = time.monotonic()
        last = pace.evaluations[-1]
        return say(f"{pace.line()}   validation: loss {last.loss:.3f}, {last.measure} {shown(last)}")

    def show(self, shown: "RenderableType") -> None:
        """Put a line or table in the place of the one before."""
        from rich.console import Console
        from rich.live import Live

        if not self.live:
            self.live = Live(console=Console(stderr=True), refresh_per_second=4)
            self.live.start()
        self.live.update(shown)

    def close(self) -> None:
        if self.live:
            self.live.stop()
        self.live = None


def table(pace: "Pace") -> "RenderableType":
    """The last evaluations, a bar, and the line of the last steps."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, padding=(0, 2), header_style="dim")
    measure = pace.evaluations[-1].measure if pace.evaluations else ""
    for heading in ("step", "validation loss", measure, ""):
        rows.add_column(heading, justify="right")
    for one in pace.evaluations[-12:]:
        rows.add_row(f"{one.step:,}", f"{one.loss:.3f}", shown(one), "best" if one.best else "")
    bar = ProgressBar(total=pace.total, completed=pace.recent[-1].number if pace.recent else 0, width=60)
    below = Table.grid()  # a bar alone does not end its line
    below.add_row(bar)
    below.add_row(Text(pace.line() if pace.recent else ""))
    return Group(rows, below)


def shown(evaluation: "Evaluation") -> str:
    """Its figure: a share in percent, R² as a number, which may be negative; none may exist."""
    if not math.isfinite(evaluation.value):
        return "undefined"
    return f"{evaluation.value:.3f}" if evaluation.measure == "R2" else f"{evaluation.value:.1%}"


def progress_for(progress: bool | Progress) -> Progress:
    """The argument `progress` of a task: True shows it on standard error, False does not."""
    if isinstance(progress, Progress):
        return progress
    return ConsoleProgress() if progress else Progress()
