"""Train a model; with no options, a small ViT on the built-in shapes, with a report at the end.

Everything goes into a run folder (runs/DATA-1, -2, ...) that is never overwritten: settings, metrics, the best model, a
checkpoint to go on from, and report.html. Defaults depend on the data; `vitral train --data digits --help` shows those.
"""

import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import UInt8

from vitral.base.config import Option, read_settings
from vitral.base.errors import UsageError, WatchError
from vitral.base.numerics import choose
from vitral.cli import say
from vitral.cli._open import model_and_data, resumed
from vitral.cli._parse import value_of
from vitral.cli._progress import Progress, counting
from vitral.cli._report import write_report
from vitral.data.batches import steps_in
from vitral.data.dataset import Dataset
from vitral.data.spec import find_data
from vitral.explain.film import Film, frame_steps
from vitral.store.classifier import Classifier
from vitral.store.model import load, save_model
from vitral.training.checkpoint import fingerprint, read_progress
from vitral.training.cost import operations, width
from vitral.training.expected import expected
from vitral.training.fit import Evaluation, fit, origin
from vitral.training.metrics import interval, predict_split
from vitral.training.probe import probed
from vitral.training.recipe import Recipe, preset
from vitral.training.run import Run
from vitral.weights.load import is_published, told

Pixels = UInt8[np.ndarray, "b y x 3"]

FILMED = 6
UNTRAINED = (-1.0, 0.0)  # a validation accuracy that any model beats
ALONGSIDE = ("--resume", "--json", "--help")


@dataclass(frozen=True)
class Options(Recipe):
    out: Annotated[
        Path | None, Option("The run's folder; it must be new or empty. By default the next runs/DATA-NUMBER.")
    ] = None
    config: Annotated[
        Path | None, Option("A config.yaml to take settings from; options given beside it come first.")
    ] = None
    resume: Annotated[
        Path | None, Option("A run folder to go on with where it stopped; it brings its own settings.")
    ] = None
    json: Annotated[bool, Option("Print the result as JSON, the last line on standard output.")] = False

    @property
    def recipe(self) -> Recipe:
        return Recipe(**{field.name: getattr(self, field.name) for field in fields(Recipe)})


def defaults(arguments: Sequence[str]) -> dict[str, Any]:
    """Presets by data, then the file of --config; what is typed comes first of all."""
    if value_of(arguments, "--resume"):
        others = [word for word in arguments if word.startswith("--") and word.partition("=")[0] not in ALONGSIDE]
        if others:
            raise UsageError(f"--resume goes on with the run's own settings; leave out {', '.join(others)}.")
    file = value_of(arguments, "--config")
    given = read_settings(Path(file), Recipe) if file else {}
    data = value_of(arguments, "--data") or given.get("data", "shapes")
    init = value_of(arguments, "--init") or given.get("init")
    if init and value_of(arguments, "--model"):
        raise UsageError("--init brings its own model: leave out --model.")
    return preset(data, init, init is not None and is_published(told(init)[0])) | given


def run(options: Options) -> dict[str, Any]:
    if options.resume:
        folder, recipe = Run.existing(options.resume)
    else:
        recipe = options.recipe
    say(f"getting {recipe.data} ready ...")
    torch.manual_seed(recipe.seed)
    model, data = resumed(recipe, options.resume) if options.resume else model_and_data(recipe)
    if not recipe.epochs and not isinstance(model.head, torch.nn.Linear):
        raise UsageError(f"--epochs 0 fits a linear head, and this model's is a {type(model.head).__name__}.")
    total = steps_in(data.train, recipe.batch_size, recipe.epochs)
    planned = operations(model) * min(recipe.batch_size, len(data.train)) * total
    numerics = choose(recipe.precision, recipe.compile, width(model), planned)
    model.to(numerics.device)
    best = UNTRAINED
    if not options.resume:
        folder = Run.new(options.out, recipe)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(
        f"{recipe.data}: {len(data.train):,} images to train, {len(data.val):,} to validate, "
        f"{len(data.classes)} classes"
    )
    say(
        f"{recipe.model}: {parameters:,} parameters, "
        f"{total:,} steps of {min(recipe.batch_size, len(data.train))} images"
    )
    say(f"{numerics.device}, {torch.get_num_threads()} threads; {numerics.reason}")
    say(f"run: {folder.folder}")
    if not recipe.init and isinstance(find_data(recipe.data), Path) and (said := expected(data)):
        say(said)

    if recipe.init and not options.resume:
        best = begun(model, data, recipe, folder)
    stood = read_progress(folder.checkpoints)[1] if options.resume else None
    reached, before = (stood.step, stood.recent) if stood else (0, ())
    spent = max([record.get("seconds", 0.0) for record in folder.records() if record["step"] <= reached], default=0.0)
    film = start_film(folder, model, data.val.pixels[:FILMED], reached)
    with interruptible() as stop, Progress(total, spent, before) as progress:
        for event in fit(model, data, recipe, numerics, folder, options.resume is not None, stop, best):
            if isinstance(event, Evaluation):
                folder.log(**asdict(event))
                progress.evaluated(event)
            else:
                progress.stepped(event)
                if film and event.number in frame_steps(total):
                    film = filmed(film, folder, model, event.number)
                if event.number % 20 == 0 or event.number == total:
                    folder.log(**progress.record())
    if stop():
        say(f"Stopped and saved. Go on with: vitral train --resume {shlex.quote(str(folder.folder))}")
        return {"run": str(folder.folder), "stopped": True, "exit_code": 130}
    if reached == total and options.resume:
        say(f"{folder.folder} was finished already; its report is written again.")
        return finish(folder, recipe, data, film, total, spent)
    return finish(folder, recipe, data, film, total, progress.seconds)


def begun(model: Classifier, data: Dataset, recipe: Recipe, folder: Run) -> tuple[float, float]:
    """Fit a new head by a linear probe, save the model, and judge it: what training has to beat."""
    head = model.head
    if not isinstance(head, torch.nn.Linear) and recipe.epochs:
        say("no linear probe: its head is more than one linear map")
    elif not isinstance(head, torch.nn.Linear) or not recipe.epochs or not head.weight.any():
        probe = probed(model, data, counting("linear probe"))
        say(f"linear probe: {probe.accuracy:.1%} of the validation images (penalty {probe.penalty:g})")
    held_out = predict_split(model, data.val)
    save_model(model, folder.folder, origin(model, recipe, fingerprint(data.train, data.val), 0))
    folder.log(step=0, loss=held_out.loss, accuracy=held_out.accuracy, best=True)
    return held_out.score


def finish(folder: Run, recipe: Recipe, data: Dataset, film: Film | None, total: int, seconds: float) -> dict[str, Any]:
    """Judge the best model on the test split and write the report."""
    model = load(folder.folder, code_of(recipe))
    test = predict_split(model, data.test)
    low, high = interval(test.accuracy, len(data.test))
    if not any("test_accuracy" in record for record in folder.records()):
        folder.log(step=total, test_loss=test.loss, test_accuracy=test.accuracy, n=len(test.labels), seconds=seconds)
    say(
        f"test accuracy {test.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}, n = {len(data.test):,}), "
        f"trained in {seconds:.0f} s"
    )
    report = write_report(folder, recipe, model, data, test, film)
    say(f"report: {report}")
    name = shlex.quote(str(folder.folder))
    say(f"next:   vitral explain {name} IMAGE     which patches CLS looks at in a picture of yours")
    return {
        "run": str(folder.folder),
        "test_accuracy": test.accuracy,
        "interval": [low, high],
        "n": len(data.test),
        "steps": total,
        "seconds": seconds,
        "report": str(report),
    }


def code_of(recipe: Recipe) -> str | None:
    return recipe.model if ".py" in recipe.model else None


def start_film(folder: Run, model: Classifier, pixels: Pixels, reached: int) -> Film | None:
    """A film with its first frame, or the frames up to the step that a run is resumed from.

    None for a model in which no attention of a CLS token can be seen.
    """
    path = folder.folder / "film.npz"
    if reached:
        return Film.load(path, until=reached) if path.is_file() else None
    return filmed(Film(pixels), folder, model, 0)


def filmed(film: Film, folder: Run, model: Classifier, step: int) -> Film | None:
    """The film with the frame of a step, or None from then on if the attention cannot be verified any more."""
    try:
        film.shoot(model, step)
    except (WatchError, UsageError) as error:
        say(f"No training film: {error}")
        return None
    film.save(folder.folder / "film.npz")
    return film


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C, once, asks for a stop after the step under way; a second time it ends the program at once."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        say("\nstopping after this step (Ctrl-C again to stop at once) ...")
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell had it ignored in the background

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
