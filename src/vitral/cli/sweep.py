"""Repeat a run with other learning rates, and compare them on the validation images.

Each rate is a run of its own, with the same settings, seed and splits. The same command continues a sweep that was
interrupted.
"""

import shlex
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from vitral.base.config import Option
from vitral.base.console import print_result, say
from vitral.base.errors import UsageError
from vitral.cli._options import Json
from vitral.cli._stop import stop_on_signals


@dataclass(frozen=True)
class Options:
    run: Annotated[Path, Option("Run folder, or a config.yaml, whose settings are repeated.", positional=True)]
    lr: Annotated[
        tuple[float, ...],
        Option("Learning rates; by default a third of the run's, the same, and three times that."),
    ] = ()
    epochs: Annotated[float | None, Option("Epochs of each run; by default the run's.", low=0.001, high=100_000)] = None
    minutes: Annotated[float | None, Option("Time for each run, instead of epochs.", low=0.01, high=1_000_000)] = None
    out: Annotated[Path | None, Option("Folder for the runs, OUT/lr-RATE; by default RUN-lr beside the run.")] = None
    cache: Annotated[str, Option("Folder in which decoded images are kept, as in `vitral train`.")] = "auto"
    json: Json = False


def run(options: Options) -> dict[str, Any]:
    from vitral.tasks.sweep import sweep

    if options.epochs and options.minutes:
        raise UsageError("--minutes determines the epochs: leave out --epochs, or --minutes.")
    with stop_on_signals() as stop:
        found = sweep(
            options.run,
            options.lr,
            out=options.out,
            epochs=options.epochs,
            minutes=options.minutes,
            cache=options.cache,
            stop=stop,
            progress=True,
        )
    if found.stopped:
        say("Stopped and saved. The same command continues.")
        return found.to_json() | {"exit_code": 128 + (stop.signal or signal.SIGINT)}
    for line in found.lines():
        print_result(line)
    if found.best:
        say(f"next:   vitral eval {shlex.quote(str(found.best.run))}")
    return found.to_json()
