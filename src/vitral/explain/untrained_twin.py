"""A model's twin that has learned nothing: the same modules, every parameter drawn again."""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

M = TypeVar("M", bound=nn.Module)
TOKEN = 0.02  # deviation of what no module draws itself: class tokens, positions


class WithoutGraphs(TorchFunctionMode):
    """Inside it a tensor that hangs on a graph, as one that a model keeps of its last pass, is copied without it.

    PyTorch refuses to copy such a tensor.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not Tensor.__deepcopy__ or args[0].is_leaf:
            return func(*args, **(kwargs or {}))
        original, memo = args
        return memo.setdefault(id(original), original.detach().clone())


def untrained_twin(model: M, seed: int = 0) -> M:
    """A copy whose modules have reset their parameters as PyTorch draws them.

    What no module resets is normal of deviation 0.02; of vectors, scales (`weight`) are one and biases zero.
    """
    with WithoutGraphs():
        twin = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in twin.modules():
            reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
            if callable(reset):
                reset()
            else:
                for name, parameter in module.named_parameters(recurse=False):
                    start(name, parameter)
    return twin


def start(name: str, parameter: nn.Parameter) -> None:
    if parameter.ndim == 1 and name == "weight":
        parameter.fill_(1)
    elif parameter.ndim == 1 and name.endswith("bias"):
        parameter.zero_()
    else:
        nn.init.normal_(parameter, std=TOKEN)
