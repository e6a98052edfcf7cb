"""Decay is decided by names: whatever ends in "weight" and has no "norm" in its name. The Vision Transformer is right.
Shows for models whose norms are called otherwise (ln1, or a number in nn.Sequential) or matrices of other names."""

import math

from torch import nn


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """The rate of one step, the first of which is 0 and the last `steps` - 1."""
    if step < warmup:
        rate = (step + 1) / (warmup + 1)
    else:
        t = (step - warmup) / (steps - warmup)
        rate = (1 + math.cos(math.pi * t)) / 2
    return peak * rate


def decayed(model: nn.Module) -> list[str]:
    """The names of all parameters that weight decay is for, in the order of `model.named_parameters()`."""
    return [name for name, _ in model.named_parameters() if name.endswith("weight") and "norm" not in name]
