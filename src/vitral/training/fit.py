"""A whole training run: batches, steps, evaluations, checkpoints. Plain code around the loop in `steps.py`."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from vitral.base.config import to_yaml
from vitral.base.errors import StoreError, TrainingError, UsageError, VitralError
from vitral.base.lookup import find
from vitral.base.numerics import Numerics
from vitral.base.provenance import provenance
from vitral.data.batches import batches, steps_in
from vitral.data.dataset import Dataset
from vitral.store.classifier import Classifier
from vitral.store.code import describe_error
from vitral.store.model import save_model
from vitral.training.checkpoint import Progress, fingerprint, load_checkpoint, read_progress, save_checkpoint
from vitral.training.metrics import predict_split
from vitral.training.optim import optimizers, schedule
from vitral.training.recipe import Recipe
from vitral.training.run import Run
from vitral.training.steps import RECENT, Step, steps

EVALUATIONS = 8  # at least so many a run, and one each epoch
MACHINE = ("command", "time", "versions", "machine")  # of this run, not of a model it started from
SAVE_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class Evaluation:
    """The validation split after a step; `best` if it beats all before it, by accuracy and then by loss."""

    step: int
    loss: float
    accuracy: float
    best: bool


def origin(model: Classifier, recipe: Recipe, data_sha256: str, step: int) -> dict[str, Any]:
    """What is written into a model about where it comes from; of one that was started from another, from where."""
    known = {key: value for key, value in model.provenance.items() if key not in MACHINE}
    start = known | {"init": recipe.init} if recipe.init else {}
    return provenance() | start | {"data": recipe.data, "seed": recipe.seed, "data_sha256": data_sha256, "step": step}


def fit(
    model: Classifier,
    data: Dataset,
    recipe: Recipe,
    numerics: Numerics,
    run: Run,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    best: tuple[float, float] = (-1.0, 0.0),
) -> Iterator[Step | Evaluation]:
    """Train `model` by `recipe`, yielding each step and each evaluation; the best model and a checkpoint are in `run`.

    `best` is the validation accuracy and minus the loss to beat, of a model that is in `run` already. When `stop()`
    turns true, a checkpoint is written after the step under way and the generator ends. With `resume` it goes on from
    the last checkpoint as if it had never stopped. Raises `StoreError` if that belongs to other data or settings,
    `TrainingError` if a loss or a gradient is not a number.
    """
    total = steps_in(data.train, recipe.batch_size, recipe.epochs)
    every = max(1, min(total // EVALUATIONS, steps_in(data.train, recipe.batch_size, 1)))
    movers = optimizers(model, recipe)
    settings, content = sha256(to_yaml(recipe).encode()).hexdigest(), fingerprint(data.train, data.val)
    code = getattr(model, "code", {})
    done, kept = 0, 0
    recent: deque[Step] = deque(maxlen=RECENT)
    if resume:
        folder, progress = read_progress(run.checkpoints)
        if progress.settings != settings:
            raise StoreError(
                f"{run.folder / 'config.yaml'} was changed since the run stopped. "
                "Put it back, or start a new run with it: --config."
            )
        if progress.data != content:
            raise StoreError(
                f"The training or validation images of {recipe.data} are not those the run began with. "
                "Put them back, or start a new run."
            )
        if progress.code != code.get("sha256", ""):
            raise StoreError(f"{code['file']} was changed since the run stopped. Put it back, or start a new run.")
        load_checkpoint(folder, model, movers)
        done = kept = progress.step
        best = progress.best
        recent.extend(progress.recent)
        run.rewind(done)

    def checkpoint(step: int) -> None:
        progress = Progress(step, best, tuple(recent), settings, content, code.get("sha256", ""))
        save_checkpoint(run.checkpoints, progress, model, movers)

    trained = cast(nn.Module, torch.compile(model)) if numerics.compile else model
    feed = batches(
        data.train,
        model.preprocessing,
        recipe.batch_size,
        recipe.seed,
        find("data.augmentation", recipe.augment, "augmentation"),
        start=done,
        device=numerics.device,
    )
    lr_at = partial(schedule, total=total, warmup=recipe.warmup)
    loop = steps(trained, feed, movers, lr_at, numerics.autocast, recipe.clip, recipe.label_smoothing, done)
    saved = time.monotonic()
    while done < total:
        try:
            step = next(loop)
        except TrainingError as error:
            raise TrainingError(
                f"{error} The checkpoint of step {kept} is kept in {run.folder}." if kept else str(error)
            ) from error
        except Exception as error:  # whatever the reader's own code raises
            if isinstance(error, VitralError) or not code:
                raise
            reason = describe_error(error, Path(code["file"]))
            raise UsageError(
                f"{code['file']}:{code['name']} failed in step {done + 1} of training: {reason}"
            ) from error
        done = step.number
        recent.append(step)
        yield step
        stopping = stop()
        if done % every == 0 or done == total:
            held_out = predict_split(model, data.val, numerics.device)
            evaluation = Evaluation(done, held_out.loss, held_out.accuracy, held_out.score > best)
            if evaluation.best:
                best = held_out.score
                save_model(model, run.folder, origin(model, recipe, content, done))
            yield evaluation
        if stopping or done % every == 0 or done == total or time.monotonic() - saved > SAVE_EVERY:
            checkpoint(done)
            kept, saved = done, time.monotonic()
        if stopping:
            return
