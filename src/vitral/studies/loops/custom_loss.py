"""`minimize`: training steps on any loss."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from vitral.base.errors import TrainingError
from vitral.training.optim import schedule, set_lr
from vitral.training.recipe import Recipe
from vitral.training.steps import Step


def minimize(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    optimizers: list[torch.optim.Optimizer],
    total: int,
    recipe: Recipe,
    done: int = 0,
) -> Iterator[Step]:
    """Train on `loss_of(images, labels)` of each batch; the learning rate rises and falls within these `total` steps.

    Steps are numbered from `done` + 1; their `correct` is 0, since a loss need not have right answers. Raises
    `TrainingError` at the first loss or gradient that is not finite.
    """
    model.train()
    lr_at = partial(schedule, total=total, warmup=recipe.warmup)
    start = time.perf_counter()
    for number, (images, labels) in enumerate(batches):
        ready = time.perf_counter()
        set_lr(optimizers, lr_at(number))
        loss = loss_of(images, labels)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        if not math.isfinite(loss.item()) or not norm.isfinite():
            raise TrainingError(
                f"In step {done + number + 1} the loss is {loss.item()} and the gradient norm {norm:g}."
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        now, lr = time.perf_counter(), optimizers[-1].param_groups[0]["lr"]
        yield Step(done + number + 1, len(labels), loss.item(), 0, lr, now - start, ready - start)
        start = time.perf_counter()
