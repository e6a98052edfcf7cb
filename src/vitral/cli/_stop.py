"""Ctrl-C and SIGTERM ask a training run to stop after its step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vitral.base.console import say


class Stop:
    """Whether a signal has asked for a stop, and which."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """The first Ctrl-C, or SIGTERM, by which clusters take a machine back, asks for a stop after the step under way.

    A second one ends the program at once.
    """
    stop = Stop()

    def on_signal(number: int, frame: FrameType | None) -> None:
        again = "Ctrl-C again to stop at once" if number == signal.SIGINT else "again to stop at once"
        say(f"\n{signal.Signals(number).name}: stopping after this step ({again}) ...")
        stop.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's shell may have it ignored
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
