"""Gradients are cleared after the update instead of before backward: gradients from before the call are added.
Shows when parameters hold gradients at the start (and none are left after the step); a fresh model is right."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """The rate of one step, the first of which is 0 and the last `steps` - 1."""
    rising = (step + 1) / (warmup + 1)
    if step < warmup:
        return peak * rising
    angle = math.pi * (step - warmup) / (steps - warmup)
    return peak * 0.5 * (math.cos(angle) + 1)


def decayed(model: nn.Module) -> list[str]:
    """The names of all parameters that weight decay is for, in the order of `model.named_parameters()`."""
    chosen = []
    for name, parameter in model.named_parameters():
        token = "cls_token" in name.split(".") or "pos_embed" in name.split(".")
        if len(parameter.shape) >= 2 and not token:
            chosen.append(name)
    return chosen


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """One update of the model; returns the loss before it."""
    scores = model(images)
    loss = F.cross_entropy(scores, labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()
