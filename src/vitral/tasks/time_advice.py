"""What would make a training run faster, by rules on where its time went; nothing where no rule is sure to help."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from vitral.base.numerics import WIDE, Numerics
from vitral.data.dataset import Dataset
from vitral.store.classifier import Classifier
from vitral.tasks.choose_numerics import milliseconds
from vitral.training.cost import width
from vitral.training.loop import batches_of
from vitral.training.recipe import Recipe

WAITING, OPTIMIZER = 0.2, 0.25  # shares of a step above which they are worth a word
BUSY = 0.8  # processor time over time, below which figures are those of other programs, too
HIGH, LOW = 0.5, 0.25  # shares of the peak: computing is the limit; most of the processor is not used
LIGHTER = 0.7  # time to prepare a batch without augmentation, over that with it, below which augmentation is the cause
BATCHES = 5  # that are prepared each way, after one that is not counted


def advise(
    parts: Mapping[str, float],
    utilisation: float | None,
    model: Classifier,
    data: Dataset,
    recipe: Recipe,
    numerics: Numerics,
    processes: int,
    busy: float,
) -> str:
    """One sentence or two on what limits the speed of a run and what to do; empty if nothing is sure to help.

    `parts` are the shares of a step, `utilisation` is the share of the GEMM peak if it was measured, and `busy` is the
    processor time of this process over the time that has passed.
    """
    if parts["waiting"] > WAITING:
        return advise_on_data(model, data, recipe, numerics)
    if numerics.device == "cpu" and busy < BUSY:
        return f"this program had a processor for {busy:.0%} of the time: other programs use it, or the disk is slow."
    if parts.get("optimizer", 0.0) > OPTIMIZER and recipe.batch_size < len(data.train):
        cheaper = ", and --optimizer adamw takes less time per step" if recipe.optimizer == "muon" else ""
        return (
            f"the optimizer takes {parts['optimizer']:.0%} of a step, and as long for any batch: with a larger "
            f"--batch-size an epoch has fewer steps{cheaper}."
        )
    if utilisation is None:
        return ""
    threads, cores = torch.get_num_threads(), usable_cores()
    alone = numerics.device == "cpu" and processes == 1 and "OMP_NUM_THREADS" in os.environ
    if alone and utilisation > LOW and 2 * threads <= cores:
        return f"OMP_NUM_THREADS={threads} uses {threads} of {cores} cores: set it to {cores}."
    if utilisation > HIGH:
        return "computing is the limit: a smaller model, smaller images or a faster processor train faster."
    inner = width(model)
    if utilisation < LOW and inner < WIDE:
        return (
            f"the matrix products of this model are too narrow (inner width {inner}) to fill the processor: a wider "
            "model takes less additional time than its size suggests."
        )
    if utilisation < LOW and numerics.device == "cuda" and recipe.batch_size < len(data.train) and half_is_free():
        return "most of the GPU and of its memory is not used: a larger --batch-size trains more images per second."
    return ""


def half_is_free() -> bool:
    """Whether training has taken less than half of the GPU's memory."""
    return 2 * torch.cuda.max_memory_allocated() < torch.cuda.get_device_properties(0).total_memory


def advise_on_data(model: Classifier, data: Dataset, recipe: Recipe, numerics: Numerics) -> str:
    """Whether batches would come faster without augmentation, measured."""
    own = time_batches(model, data, recipe, numerics)
    light = time_batches(model, data, replace(recipe, augment="none", mix="none", mix_alpha=None), numerics)
    if light < LIGHTER * own:
        names = [f"--augment {recipe.augment}"] * (recipe.augment != "none") + [f"--mix {recipe.mix}"] * (
            recipe.mix != "none"
        )
        return (
            f"preparing batches is the limit: one takes {milliseconds(own)}, and {milliseconds(light)} without "
            f"{' and '.join(names)}. A lighter augmentation trains faster."
        )
    smaller = " Smaller images (--img-size) take less." if Path(recipe.data).exists() else ""
    return (
        f"preparing batches is the limit: one takes {milliseconds(own)}, of which augmentation is at most a third."
        f"{smaller}"
    )


def time_batches(model: Classifier, data: Dataset, recipe: Recipe, numerics: Numerics) -> float:
    """The median seconds in which a batch is prepared."""
    taken, start = [], time.perf_counter()
    for _ in islice(batches_of(model, data, recipe, numerics.device), 1 + BATCHES):
        if numerics.device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
        start = time.perf_counter()
    return median(taken[1:])


def usable_cores() -> int:
    """The processor's cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
