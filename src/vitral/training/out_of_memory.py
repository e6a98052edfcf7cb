"""Training steps that do not fit into memory: refused before they are taken where that is certain, else named."""

import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vitral.base.errors import TrainingError
from vitral.base.memory import address_space, available_memory, in_words, is_out_of_memory, total_memory
from vitral.base.numerics import Numerics
from vitral.base.plural import one_or_many
from vitral.data.dataset import Dataset
from vitral.store.classifier import Classifier
from vitral.training.memory import (
    FEW,
    MORE,
    free_gradients,
    free_memory,
    is_taken,
    largest_batch,
    step_bytes,
)
from vitral.training.processes import ALONE, Processes
from vitral.training.recipe import Recipe

# Bytes that an image takes in a step, over those of its pixels as floats: at most so many in a ViT-g/14.
MOST = 5_000


class OutOfMemory(TrainingError):
    """A training step does not fit into memory."""


@contextmanager
def memory_named(
    model: Classifier,
    data: Dataset,
    recipe: Recipe,
    numerics: Numerics,
    processes: Processes = ALONE,
    number: int = 1,
    is_new: bool = True,
) -> Iterator[None]:
    """Say of step `number` that runs out of memory what it was, what memory there is, and how many images fit.

    `is_new` is whether no step of this run has been taken before, so that its settings may still be changed. Raises
    `OutOfMemory`.
    """
    try:
        yield
    except Exception as error:  # MemoryError, and several that PyTorch raises
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors of the step that failed
        batch = min(recipe.batch_size, len(data.train))
        at_once = images_at_once(recipe, batch, processes)
        free_gradients(model, numerics)
        height, width = model.preprocessing.size
        free = free_memory(numerics)
        what = (
            f"Step {number} ran out of memory: {one_or_many(at_once, 'image')} of {height}x{width} at once through "
            f"{recipe.model}, in {numerics.precision} on {numerics.device}"
            f"{'' if free is None else f', with {in_words(free)} free'}{limit_note()}."
        )
        if is_new:
            raise OutOfMemory(f"{what} {what_fits(model, data, recipe, numerics, processes, batch, at_once)}") from None
        raise OutOfMemory(
            f"{what} Earlier steps of the run fitted into memory: less is free now, or another program has taken some. "
            "Free some memory, and continue the run with --resume."
        ) from None


def limit_note() -> str:
    """The limit on the address space, if there is one."""
    return "".join(f" and a limit of {in_words(limit)} on the address space (ulimit -v)" for limit in address_space())


def images_at_once(recipe: Recipe, batch: int, processes: Processes) -> int:
    """Images that one process computes at once."""
    return math.ceil(batch / max(recipe.accumulate, processes.size))


def what_fits(
    model: Classifier,
    data: Dataset,
    recipe: Recipe,
    numerics: Numerics,
    processes: Processes,
    batch: int,
    at_once: int,
) -> str:
    """Advice on which batch fits, by steps that are tried here."""
    try:
        fits, need = largest_batch(model, data, recipe, numerics, at_once)
        parts = math.ceil(batch / fits) if fits and processes.size == 1 else 0
        in_parts = parts and is_taken(model, data, recipe, numerics, batch, parts)
    except Exception:  # a model may not take so few images; the message is about memory, whatever it says to them
        need = 0.0
    if not need:
        return "Use a smaller --batch-size, or --accumulate 2, 4, ..., which computes a batch in that many parts."
    per = f"An image takes about {in_words(need)} in a step"
    if not fits:
        return f"{per}, and not even one fits. Use a smaller --img-size or --model."
    found = f"{per}, and a step on {one_or_many(fits, 'image')} fits (tried)"
    if processes.size > 1:
        return f"{found}: use --batch-size {fits * processes.size}, or more processes."
    if not in_parts:
        return f"{found}: use --batch-size {fits}."
    return f"{found}: use --accumulate {parts}, which computes each batch in {parts} parts, or --batch-size {fits}."


def refuse_what_cannot_fit(
    model: Classifier, data: Dataset, recipe: Recipe, numerics: Numerics, note: Callable[[str], None]
) -> None:
    """Raise `OutOfMemory` where a step certainly takes more memory than there is; `note` takes it where it may.

    On a CPU under Linux, which ends such a process without a word. What tensors take is a part of what a step takes;
    certain is only what goes beyond the memory of the machine and its swap space, or beyond that of a control group. A
    model of the user's own may compute many images in parts, so for it nothing is certain.
    """
    limit, free = total_memory(), available_memory()
    at_once = images_at_once(recipe, min(recipe.batch_size, len(data.train)), ALONE)
    height, width = model.preprocessing.size
    if numerics.device != "cpu" or limit is None or free is None or at_once <= MORE:
        return
    if 12.0 * height * width * at_once * MOST < limit:
        return
    try:
        few, more = (step_bytes(model, data, recipe, numerics, images) for images in (FEW, MORE))
    except Exception:  # a model may not take so few images
        return
    need = more + (more - few) / (MORE - FEW) * (at_once - MORE)
    what = f"{at_once:,} images of {height}x{width} at once through {recipe.model}"
    if need > limit and not getattr(model, "code", None):
        raise OutOfMemory(
            f"A step on {what} would take about {in_words(need)} of memory, as extrapolated from steps on {FEW} and "
            f"{MORE} images; the limit is {in_words(limit)}. "
            f"{what_fits(model, data, recipe, numerics, ALONE, at_once, at_once)}"
        )
    if need > free:
        note(
            f"warning: a step on {what} takes about {in_words(need)} of memory, and only {in_words(free)} is free. If "
            "it fails, use --accumulate 2, 4, ..., which computes a batch in that many parts."
        )
