"""A whole training run, read from top to bottom: prepare, resume, then step, evaluate, save.

The loop is a generator, so that logging and display are plain code of whoever iterates over it.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from vitral.base.answer import answer_of
from vitral.base.errors import TrainingError, UsageError, VitralError
from vitral.base.numerics import Numerics
from vitral.base.provenance import provenance
from vitral.data.batches import steps_in
from vitral.data.dataset import Dataset
from vitral.store.classifier import Classifier
from vitral.store.code import describe_error
from vitral.store.model import save_model
from vitral.training import optim
from vitral.training.average import MovingAverage
from vitral.training.checkpoint import Checkpoint, Inputs, Progress, Report, fingerprint, resume, save_checkpoint
from vitral.training.evaluations import steps_between
from vitral.training.loop import training_steps
from vitral.training.lora import merged
from vitral.training.metrics import evaluate_split
from vitral.training.out_of_memory import memory_named
from vitral.training.processes import ALONE, Processes
from vitral.training.recipe import Recipe
from vitral.training.run import Run
from vitral.training.steps import RECENT, Step

UNTRAINED = (-math.inf, 0.0)  # a validation score that any model beats
SAVE_EVERY = 60.0  # seconds between checkpoints, if epochs are long
MACHINE = ("command", "time", "versions", "machine")  # provenance of this run, not of the model it started from


@dataclass(frozen=True)
class Evaluation:
    """The validation split after a step; `best` if it beats all before it, by the task's figure and then by loss.

    `value` is that figure, which `measure` names, such as "accuracy".
    """

    step: int
    loss: float
    measure: str
    value: float
    best: bool

    def record(self) -> dict[str, int | float | bool]:
        """As `metrics.jsonl` has it."""
        return {"step": self.step, "loss": self.loss, self.measure: self.value, "best": self.best}


def fit(
    model: Classifier,
    data: Dataset,
    recipe: Recipe,
    numerics: Numerics,
    run: Run,
    resuming: bool = False,
    stop: Callable[[], bool] = lambda: False,
    best: tuple[float, float] = UNTRAINED,
    processes: Processes = ALONE,
    report: Report = lambda sentence: None,
) -> Iterator[Step | Evaluation]:
    """Train `model` by `recipe` and yield each step and each evaluation; `run` gets the best model and checkpoints.

    `best` is the validation score (`Figures.score`) of a model that is in `run` already. With `recipe.ema` the model
    that is evaluated and saved is the moving average. Training ends early after `recipe.patience` evaluations without a
    better score. Once `stop()` is true, the step under way is finished, a checkpoint is written, and the generator
    ends. If `resuming`, the run continues from its last checkpoint bit for bit; `report` gets a sentence where it does
    not.

    Of several `processes`, all take and yield the steps; the first one alone reads the checkpoint, evaluates, writes,
    and yields the evaluations.

    Raises `StoreError` if the checkpoint is of other data or settings, `TrainingError` at a loss or gradient that is
    not a number, if memory runs out, or if another process is lost.
    """
    total = steps_in(data.train, recipe.batch_size, recipe.epochs)
    every = steps_between(total, steps_in(data.train, recipe.batch_size, 1))
    optimizers = optim.optimizers(model, recipe)
    code: dict[str, str] = getattr(model, "code", {})
    # Hashed before the first step: a run that is resumed with other settings, images or code would be another run.
    settings = run.settings_sha256 if processes.is_first else ""  # which alone writes and reads the run
    images = len(data.train) + len(data.val)
    inputs = Inputs(settings, fingerprint(data.train, data.val), code.get("sha256", ""), total, images)

    average = MovingAverage(model, recipe.ema) if recipe.ema and processes.is_first else None
    done, waited, recent = 0, 0, deque[Step](maxlen=RECENT)
    if resuming and processes.is_first:
        skips = recipe.on_bad_image == "skip"
        own_code = code.get("file", "")
        before = resume(run.checkpoints, inputs, model, optimizers, recipe.data, own_code, average, report, skips)
        done, best, waited = before.step, before.best, before.waited
        recent.extend(before.recent)  # a checkpoint has the last steps even if it is written soon after resuming
        # The log may be ahead of the checkpoint: those steps are about to be taken again, and the model to be tested.
        run.rewind(done, done == total)
    done, waited = processes.agreed((done, waited))
    processes.start_equal(model, optimizers, inputs.data, resuming)
    saved, saved_at = done, time.monotonic()

    # The compiled module shares its parameters with `model`, which stays what is evaluated and saved.
    trained = cast(nn.Module, torch.compile(model)) if numerics.compile else model
    lr_at = partial(optim.schedule, total=total, warmup=recipe.warmup)
    measure = answer_of(model).measure
    loop = training_steps(model, data, recipe, numerics, optimizers, lr_at, done, trained, processes)
    while done < total and not (recipe.patience and waited >= recipe.patience):
        # Only the step itself is inside: what fails in the caller, at a `yield`, is not the model's fault.
        failures = memory_named(model, data, recipe, numerics, processes, done + 1, is_new=not done)
        with failures_named(run, code, done + 1, saved), failures:
            step = next(loop)
        done = step.number
        recent.append(step)
        if average:
            average.update(model, done)
        yield step
        # Asked once per step, and before the evaluation: a stop that comes meanwhile waits for the next step, so that a
        # resumed run evaluates and saves at the same steps as an unbroken one.
        stopping = processes.stopping(stop())
        evaluating = done % every == 0 or done == total
        # By the first process alone: evaluation is a small part of a run, and needs no rule for the images of the last
        # batch, none of which may be counted twice or be missing.
        if evaluating and processes.is_first:
            # As it is loaded later: no adapter, the same keys as before.
            plain = merged(cast(Classifier, average.model) if average else model)
            held_out = evaluate_split(plain, data.val)
            is_best = held_out.score > best
            waited = 0 if is_best else waited + 1
            if is_best:
                best = held_out.score
                save_model(plain, run.path, origin(model, recipe, inputs.data, done))
            yield Evaluation(done, held_out.loss, measure, held_out.value, is_best)
        # After the evaluation, so that the checkpoint knows the best score, and resuming does not evaluate again.
        if processes.is_first and (stopping or evaluating or time.monotonic() - saved_at > SAVE_EVERY):
            progress = Progress(done, best, tuple(recent), waited)
            save_checkpoint(run.checkpoints, Checkpoint.take(progress, inputs, model, optimizers, average))
            saved, saved_at = done, time.monotonic()
        if evaluating or stopping:
            saved, waited = processes.agreed((saved, waited))  # the others wait here, without the time limit of a step
        if stopping:
            return


@contextmanager
def failures_named(run: Run, code: dict[str, str], number: int, saved: int) -> Iterator[None]:
    """Say of a step that fails which checkpoint is left, and which line of the user's own model failed."""
    try:
        yield
    except TrainingError as error:
        kept = f" The checkpoint of step {saved} is kept in {run.path}." if saved else ""
        raise type(error)(f"{error}{kept}") from error
    except Exception as error:  # whatever the user's own code raises
        if isinstance(error, VitralError) or not code:
            raise
        reason = describe_error(error, Path(code["file"]))
        raise UsageError(f"{code['file']}:{code['name']} failed in step {number} of training: {reason}") from error


def origin(model: Classifier, recipe: Recipe, data_sha256: str, step: int) -> dict[str, Any]:
    """The provenance saved with a model; for one that started from another, that one's provenance as well."""
    known = {key: value for key, value in model.provenance.items() if key not in MACHINE}
    start = known | {"init": recipe.init} if recipe.init else {}
    known = {"data": recipe.data, "seed": recipe.seed, "data_sha256": data_sha256, "step": step}
    # What evaluation needs to read the same splits again.
    return provenance() | start | known | ({"duplicates": "drop"} if recipe.duplicates == "drop" else {})
