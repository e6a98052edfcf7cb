"""A model's twin that has learned nothing: the same modules, every parameter drawn again."""

import copy
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)
TOKEN = 0.02  # deviation of what no module draws itself: class tokens, positions


def untrained_twin(model: M, seed: int = 0) -> M:
    """A copy whose modules have reset their parameters as PyTorch draws them; the rest is normal of deviation 0.02."""
    twin = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in twin.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
            else:
                for parameter in module.parameters(recurse=False):
                    nn.init.normal_(parameter, std=TOKEN) if parameter.ndim > 1 else None
    return twin
