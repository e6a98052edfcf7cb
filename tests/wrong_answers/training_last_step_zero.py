"""The cosine is shortened by one step, so that the rate of step `steps` - 1 is exactly 0: t divides by one too few.
Shows for all steps after `warmup`; the warm-up and the peak are right."""

import math

from torch import nn


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """The rate of one step, the first of which is 0 and the last `steps` - 1."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return 0.5 * peak * (1 + math.cos(math.pi * progress))


def decayed(model: nn.Module) -> list[str]:
    """The names of all parameters that weight decay is for, in the order of `model.named_parameters()`."""
    names = []
    for name, p in model.named_parameters():
        if p.dim() < 2:
            continue
        if name.split(".")[-1] in ("cls_token", "pos_embed"):
            continue
        names.append(name)
    return names
