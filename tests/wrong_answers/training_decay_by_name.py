"""Decay is decided by names: whatever ends in "weight" and has no "norm" in its name. The Vision Transformer is right.
Shows for models whose norms are called otherwise (ln1, or a number in nn.Sequential) or matrices of other names."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

prediction = "a"


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


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """One update of the model; returns the loss before it."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()
