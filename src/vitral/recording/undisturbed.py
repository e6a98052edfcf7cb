"""Run a model for a measurement of our own, and leave it as if that had not happened.

A model may count its passes, keep its attention or a cache of keys, or draw random numbers; a user's hooks may collect
what passes through. None of that is to know of a pass that the user did not ask for.

What is put back: the attributes of each module, the contents of its buffers and of other tensors, containers,
generators and objects of the user's classes that it holds, and the random state of PyTorch, NumPy and Python. Hooks do
not run, but for PyTorch's own (weight norm, pruning), which are part of how a model computes.

What is not: the values of parameters that a model changes while it runs, and what lies outside of it, such as a file
that it writes. A hook for all modules (`register_module_forward_hook`), a `forward` that was replaced, and a mode such
as `FlopCounterMode` see these passes.
"""

import random
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitral.recording.lazy_copy import lazy_copy

HOOKS = ("_forward_hooks", "_forward_pre_hooks")
DEEPEST, MOST = 6, 1000  # levels and items in which tensors are looked for: a model may refer to a whole data set
LIBRARIES = {*sys.stdlib_module_names, "torch", "numpy", "vitral"}  # whose objects' attributes are left alone


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Inside it the model runs without the user's hooks; afterwards it is as it was before (see this module).

    Costs a copy of those tensors that the pass changes; never one of parameters.
    """
    known: set[int] = set()
    modules = list(model.modules())
    restore = [put_back for module in modules for put_back in states_of(module, known)]
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 - the model may draw from the global generator
    devices = sorted({value.device.index for value in model.parameters() if value.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        for module in modules:
            for name in HOOKS:
                # Another dict in place of the module's, so that the handles of the user's hooks go on to work.
                kept = [(key, hook) for key, hook in vars(module).get(name, {}).items() if is_of_torch(hook)]
                vars(module)[name] = OrderedDict(kept)
        try:
            yield
        finally:
            for put_back in restore:
                put_back()
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
            # Weights that were cast without a graph, for autocast, must not be found by a pass that needs one.
            torch.clear_autocast_cache()


def is_of_torch(hook: Any) -> bool:
    """Whether a hook is PyTorch's own, which computes something that the model needs."""
    return str(getattr(hook, "__module__", type(hook).__module__)).startswith("torch.")


def states_of(value: Any, known: set[int], depth: int = 0) -> Iterator[Callable[[], None]]:
    """For a module, or what one holds, functions that put back what a forward pass may change in it."""
    if id(value) in known or depth > DEEPEST or (depth and isinstance(value, nn.Module)):  # parts come by themselves
        return
    known.add(id(value))
    if isinstance(value, Tensor):
        if type(value) is Tensor and (put_back := tensor_state(value)) is not None:
            yield put_back
    elif isinstance(value, torch.Generator):
        yield partial(value.set_state, value.get_state())
    elif isinstance(value, dict | list | set | deque | tuple):
        if len(value) <= MOST:
            for inner in value.values() if isinstance(value, dict) else value:
                yield from states_of(inner, known, depth + 1)
        if not isinstance(value, tuple):
            yield partial(put_contents_back, value, value.copy())
    elif isinstance(value, nn.Module) or is_of_user(value):
        yield from states_of(vars(value), known, depth + 1)


def is_of_user(value: Any) -> bool:
    """Whether it is an object with attributes of a class of the user's, such as a cache of keys."""
    home = type(value).__module__.partition(".")[0]
    return hasattr(value, "__dict__") and home not in LIBRARIES and not isinstance(value, type | ModuleType)


def tensor_state(tensor: Tensor) -> Callable[[], None] | None:
    """A function that puts back the values of a tensor, if they were changed; None if it has none."""
    if tensor.is_meta or tensor.layout != torch.strided:
        return None
    return partial(put_values_back, tensor, lazy_copy(tensor.detach()), version_of(tensor))


def put_values_back(tensor: Tensor, copy: Tensor, version: int | None) -> None:
    """Gives a tensor the values of its copy, if it was changed since it had this version."""
    if (version is None or version_of(tensor) != version) and tensor.shape == copy.shape:
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            tensor.detach().copy_(copy)


def version_of(tensor: Tensor) -> int | None:
    """How often a tensor was changed in place; None where PyTorch does not count."""
    return None if tensor.is_inference() else tensor._version


def put_contents_back(container: Any, before: Any) -> None:
    """Gives a container what it held before, if that was changed."""
    if not holds_same(container, before):
        container.clear()
        (container.extend if isinstance(container, list | deque) else container.update)(before)


def holds_same(one: Any, other: Any) -> bool:
    """Whether two containers hold the same objects, in the same order."""
    pairs = zip(one.items(), other.items()) if isinstance(one, dict) else ((a, b) for a, b in zip(one, other))
    return len(one) == len(other) and all(
        a is b or (isinstance(one, dict) and a[0] is b[0] and a[1] is b[1]) for a, b in pairs
    )
