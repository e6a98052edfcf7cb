"""What a training step takes of the memory, measured in steps at a learning rate of 0, and how many images fit."""

import ctypes
import gc
import math
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any
from weakref import finalize

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitral.base.memory import available_memory, is_out_of_memory
from vitral.base.numerics import Numerics
from vitral.data.dataset import Dataset
from vitral.recording.undisturbed import undisturbed
from vitral.store.classifier import Classifier
from vitral.training import optim
from vitral.training.loop import training_steps
from vitral.training.recipe import Recipe
from vitral.training.steps import Step

FEW, MORE = 2, 4  # images on which steps are measured
CAUTION = 0.8  # of the free memory: what kernels use inside is not measured


class TensorBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operators return inside it; `peak` is the most that lived at once."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[int] = set()
        self.now = self.peak = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # else the first operator loads the compiler, 70 MB
        return False

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        output = function(*arguments, **(options or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return output

    def count(self, storage: torch.UntypedStorage) -> None:
        """Add a storage that was not known, until its memory is freed."""
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        finalize(storage, self.forget, key, size).atexit = False

    def forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def step_bytes(
    model: Classifier, data: Dataset, recipe: Recipe, numerics: Numerics, images: int, parts: int = 1
) -> float:
    """The most bytes that two training steps on so many images hold at once; the model stays as it is.

    On a GPU those that PyTorch allocates, also before; else those of tensors that operators make.
    """
    mixed: dict[str, Any] = dict(mix="none", mix_alpha=None) if images < 2 else {}
    own = replace(recipe, batch_size=images, accumulate=parts, **mixed)
    counter = TensorBytes()
    try:
        with undisturbed(model):
            loop = partial(training_steps, model, data, own, numerics, optim.optimizers(model, own), lambda step: 0.0)
            if numerics.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                take(loop(), 2)
                return float(torch.cuda.max_memory_allocated())
            with counter:
                take(loop(), 2)
            return float(counter.peak)
    finally:
        free_gradients(model, numerics)


def take(loop: Iterator[Step], count: int) -> None:
    """Take so many steps, of which nothing stays."""
    for _ in islice(loop, count):
        pass


def largest_batch(
    model: Classifier, data: Dataset, recipe: Recipe, numerics: Numerics, below: int
) -> tuple[int, float]:
    """How many images fit in a step, of those below a number that does not; and the bytes that one takes.

    The first is a power of two whose step was taken here, 0 if there is none; both are 0 where the system does not say
    how much memory is free. On a CPU twice as many were taken: the C library does not give all memory back, and how
    much it keeps differs between programs.
    """
    free = free_memory(numerics)
    if free is None:
        return 0, 0.0
    few, more = (step_bytes(model, data, recipe, numerics, images) for images in (FEW, MORE))
    need = max(1.0, (more - few) / (MORE - FEW))
    most = min(below // 2, int((CAUTION * free - (few - FEW * need)) / need))
    fits = 2 ** int(math.log2(most)) if most >= 1 else 0
    room = 1 if numerics.device == "cuda" else 2
    while fits and not is_taken(model, data, recipe, numerics, fits if fits == 1 else fits * room):
        fits //= 2
    return fits, need


def is_taken(model: Classifier, data: Dataset, recipe: Recipe, numerics: Numerics, images: int, parts: int = 1) -> bool:
    """Whether a step on so many images, computed in so many parts, fits into memory; by taking it."""
    try:
        step_bytes(model, data, recipe, numerics, images, parts)
        return True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
    free_gradients(model, numerics)
    return False


def free_gradients(model: Classifier, numerics: Numerics) -> None:
    """Let go of gradients, and of the memory that PyTorch keeps for later."""
    for parameter in model.parameters():
        parameter.grad = None
    gc.collect()
    if numerics.device == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)  # else the system takes for used what the C library has kept


def free_memory(numerics: Numerics) -> int | None:
    """Bytes that are free on the device for this process; None if that is not known."""
    if numerics.device != "cuda":
        return available_memory()
    return int(torch.cuda.mem_get_info()[0])
