"""Station 9: the learning rate, weight decay, and a training step.

    learning rate    peak ┤    ╭─╮                 a straight line from 0 up to the peak in `warmup` steps,
                          │   ╱   ╲                then half a cosine, which would reach 0 at `steps`:
                        0 ┼──╱     ╲──> steps      peak x (1 + cos(π t)) / 2, t from 0 to 1
    weight decay     pulls weight matrices towards zero; not biases, norms, the class token or positions
    a step           logits, cross entropy, gradients, update

Step 0 is the first. In the warm-up the rate of step s is peak (s + 1) / (warmup + 1), so that the first step already
has a rate above 0. At step `warmup` the rate is the peak. From there t = (s - warmup) / (steps - warmup).

Weight decay is for weights of two or more axes that multiply something: the kernel of the patch embedding and the
weights of linear layers. It leaves out everything with one axis, and `cls_token` and `pos_embed`, whatever their axes.
`model.named_parameters()` returns pairs (name, parameter), and `parameter.ndim` is the number of axes.

A step: `F.cross_entropy(logits, labels)` is the loss, `loss.backward()` adds to the gradients, `optimizer.step()`
updates the weights, and `loss.item()` is the loss as a number. Old gradients must be cleared before new ones are added
(`optimizer.zero_grad()`).

Before you write: why is a warm-up needed with Adam?
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
    """Return the rate of one step; steps run from 0 to `steps` - 1."""
    # Yours: a line, then half a cosine.
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def decayed(model: nn.Module) -> list[str]:
    """Return the names of all parameters with weight decay, in the order of `model.named_parameters()`."""
    # Yours: those of two or more axes, except the tokens.
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and not name.endswith(("cls_token", "pos_embed"))
    ]


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """Update the model once; return the loss before the update."""
    # Yours: the lines of every training loop.
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
