"""Station 9: what makes it learn.

    learning rate    peak ┤    ╭─╮                 a straight line from 0 up to the peak in `warmup` steps,
                          │   ╱   ╲                then half a cosine, which would reach 0 at `steps`:
                        0 ┼──╱     ╲──> steps      peak x (1 + cos(π t)) / 2, t from 0 to 1
    weight decay     pulls matrices towards zero; not biases, norms, the class token or positions
    a step           logits, cross entropy, gradients, update

Step 0 is the first. After `warmup` steps the rate is at its peak: rate(warmup) = peak. In the warm-up the rate of step
s is peak (s + 1) / (warmup + 1), so that the first step already moves. From there t = (s - warmup) / (steps - warmup).

Decay belongs to weights of two or more axes that multiply something: the kernel of the patch embedding and the weights
of linear maps. Everything of one axis is left alone, and so are `cls_token` and `pos_embed`, whatever their axes.
`model.named_parameters()` gives pairs (name, parameter), and `parameter.ndim` is how many axes it has.

A step: `F.cross_entropy(logits, labels)` is the loss, `loss.backward()` adds to the gradients, `optimizer.step()` moves
the weights by them, and `loss.item()` is the loss as a number. Gradients that are there from before must be gone before
new ones come (`optimizer.zero_grad()`).

Before you write: why warm up at all, with Adam?
    a  Adam's first steps are as long as the rate, whatever the gradient
    b  gradients are larger at first, so steps would be too long
    c  the loss is not defined at step 0
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

prediction = ""  # "a", "b" or "c"


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """The rate of one step, the first of which is 0 and the last `steps` - 1."""
    # Yours: a line, then half a cosine.
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def decayed(model: nn.Module) -> list[str]:
    """The names of all parameters that weight decay is for, in the order of `model.named_parameters()`."""
    # Yours: those of two or more axes, but the tokens.
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and not name.endswith(("cls_token", "pos_embed"))
    ]


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """One update of the model; returns the loss before it."""
    # Yours: the four lines of every training loop.
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
