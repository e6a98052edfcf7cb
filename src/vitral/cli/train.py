"""Train a model; without options, a small ViT on the built-in shapes, with a report at the end.

A run folder (runs/DATA-1, -2, ...) gets settings, metrics, the best model, a checkpoint to resume from and report.html,
and is never overwritten. Defaults depend on the data, and on --recipe: `vitral train --data digits --help` shows those
of digits.
"""

import shlex
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from vitral.base.config import Option, read_settings
from vitral.base.console import print_result, say
from vitral.base.errors import UsageError
from vitral.base.launch import find_launch
from vitral.cli._options import Json
from vitral.cli._stop import stop_on_signals
from vitral.training.recipe import Recipe
from vitral.training.run import CHANGEABLE, CONFIG

ALONGSIDE = {"resume", "json", "yes", "cache", *CHANGEABLE}


@dataclass(frozen=True)
class Options(Recipe):
    recipe: Annotated[
        str | None,
        Option(
            "Named settings, instead of the defaults for the data: small (few images, from scratch), fine-tune (with "
            "--init), simple-vit (Beyer et al. 2022) or fast (many small images)."
        ),
    ] = None
    out: Annotated[
        Path | None, Option("Run folder, which must be new or empty; by default the next runs/DATA-NUMBER.")
    ] = None
    config: Annotated[
        Path | None, Option("A config.yaml with settings; options on the command line take precedence over it.")
    ] = None
    yes: Annotated[bool, Option("Train for the default number of epochs, even if that takes more than an hour.")] = (
        False
    )
    cache: Annotated[
        str,
        Option(
            "Folder in which a folder's decoded images are kept for later runs; auto: the folder in the environment "
            "variable VITRAL_CACHE, or else the user's cache folder; none: keep them in memory only."
        ),
    ] = "auto"
    resume: Annotated[
        Path | None,
        Option("Folder of a stopped run to continue, with its own settings; --epochs and --on-bad-image may change."),
    ] = None
    json: Json = False

    @property
    def settings(self) -> Recipe:
        return Recipe(**{field.name: getattr(self, field.name) for field in fields(Recipe)})


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """The presets of the data, then the file of --config; options given take precedence over both."""
    from vitral.tasks.plan_run import defaults_for

    if "resume" in given:
        if others := [f"--{name.replace('_', '-')}" for name in given if name not in ALONGSIDE]:
            raise UsageError(f"--resume continues a run with its own settings; leave out {', '.join(others)}.")
        config = Path(given["resume"]) / CONFIG
        return read_settings(config, Recipe) if config.is_file() else {}  # the task says what is wrong otherwise
    if "minutes" in given and "epochs" in given:
        raise UsageError("--minutes determines the epochs: leave out --epochs, or --minutes.")
    file = read_settings(given["config"], Recipe) if "config" in given else {}
    init = given.get("init", file.get("init"))
    if init and "model" in given:
        raise UsageError("--init determines the model: leave out --model.")
    return defaults_for(given.get("data", file.get("data", "shapes")), init, given.get("recipe")) | file


def run(options: Options) -> dict[str, Any]:
    from vitral.tasks.plan_run import defaults_for
    from vitral.tasks.progress import ConsoleProgress
    from vitral.tasks.train import train
    from vitral.training.processes import FirstFailed

    progress = ConsoleProgress()
    try:
        with stop_on_signals() as stop:
            if options.resume:
                changes = {name: getattr(options, name) for name in CHANGEABLE}
                result = train(resume=options.resume, stop=stop, cache=options.cache, progress=progress, **changes)
            else:
                default = defaults_for(options.data, options.init, options.recipe).get("epochs", Recipe.epochs)
                agreed = options.yes or options.epochs != default or not at_terminal()
                result = train(
                    options.settings, out=options.out, stop=stop, agreed=agreed, cache=options.cache, progress=progress
                )
    except FirstFailed as error:  # which has said why
        raise SystemExit(error.exit_code) from None
    if (launch := find_launch()) and launch.rank:  # the first of several processes says how it went
        raise SystemExit(128 + (stop.signal or signal.SIGINT) if result.stopped else 0)
    name = shlex.quote(str(result.run))
    if result.stopped:
        say(f"Stopped and saved. To continue: vitral train --resume {name}")
        return {"run": str(result.run), "stopped": True, "exit_code": 128 + (stop.signal or signal.SIGINT)}
    judged = {"test": "test", "val": "validation"}[result.split]
    print_result(f"{judged} {result.summary}, n = {result.n:,}, trained in {result.seconds:.0f} s")
    print_result(f"report: {result.report}")
    say(f"next:   vitral explain {name} IMAGE{result.explained.option}     {result.explained.words}")
    return asdict(result)


def at_terminal() -> bool:
    """Whether somebody sits there who can answer."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr.isatty())
