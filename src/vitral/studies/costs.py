"""What a model costs on this machine: processor time, and the memory that training keeps.

Times are those of one thread, so that waiting for other programs does not count.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

REPEATS = 5


def shortest_time(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """The shortest of several calls after a first one to warm up, in seconds of this thread."""
    function()
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        function()
        times.append(time.thread_time() - start)
    return min(times)


@torch.inference_mode()
def forward_time(model: nn.Module, x: Tensor) -> float:
    """Seconds of a forward pass."""
    return shortest_time(partial(model, x))


def training_time(model: nn.Module, x: Tensor, repeats: int = REPEATS) -> float:
    """Seconds of a forward and a backward pass, without an optimizer's step."""
    return shortest_time(lambda: model(x).sum().backward(), repeats)


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def saved_bytes(model: nn.Module, x: Tensor) -> int:
    """The bytes that a forward pass keeps for the backward pass, without parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    # Views share a storage, so storages are counted, each once. Keeping the tensors keeps their addresses from reuse.
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = model(x.requires_grad_())
        total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return total
