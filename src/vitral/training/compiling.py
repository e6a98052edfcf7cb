"""Compile a model for its training steps, and say how long that took, or why it failed."""

import math
import time
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn

from vitral.base.numerics import Numerics
from vitral.data.dataset import Dataset
from vitral.recording.undisturbed import undisturbed
from vitral.store.classifier import Classifier
from vitral.training import optim
from vitral.training.loop import training_steps
from vitral.training.memory import take
from vitral.training.processes import ALONE, Processes
from vitral.training.recipe import Recipe


@dataclass(frozen=True)
class Compilation:
    """The compiled model, which shares its parameters with the other, and the seconds of its first step.

    `model` is None if it failed in some process; `failure` is the reason, empty if it was another process.
    """

    model: nn.Module | None
    seconds: float
    failure: str = ""


def compile_model(
    model: Classifier, data: Dataset, recipe: Recipe, numerics: Numerics, processes: Processes = ALONE
) -> Compilation:
    """Compile a model, by a step of size zero on this process's number of images; all `processes` do so together.

    PyTorch keeps the code: when training compiles the same model again, that takes little time.
    """
    # Each process takes this step alone: where one fails, no other may wait for it.
    images = math.ceil(min(recipe.batch_size, len(data.train)) / processes.size)
    start, failure = time.perf_counter(), ""
    compiled: nn.Module | None = None
    try:
        with undisturbed(model):
            compiled = cast(nn.Module, torch.compile(model))
            own = replace(recipe, batch_size=max(2, images))
            optimizers = optim.optimizers(model, own)
            take(training_steps(model, data, own, numerics, optimizers, lambda step: 0.0, 0, compiled), 1)
    except Exception as error:  # whatever the compiler raises
        failure = (str(error).strip() or type(error).__name__).splitlines()[0]
    for parameter in model.parameters():
        parameter.grad = None
    failed = processes.any(bool(failure))
    return Compilation(None if failed else compiled, time.perf_counter() - start, failure)
