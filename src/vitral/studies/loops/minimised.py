"""`minimised`: steps on any loss, for loops that learn from more than labels."""

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


def minimised(
    model: nn.Module,
    feed: Iterable[tuple[Tensor, Tensor]],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    movers: list[torch.optim.Optimizer],
    total: int,
    recipe: Recipe,
    done: int = 0,
) -> Iterator[Step]:
    """Train on `loss_of(images, labels)` of each batch; the learning rate rises and falls within these `total` steps.

    `done` steps were taken before; what is `correct` is not counted. Raises `TrainingError` at the first loss or
    gradient that is not a number.
    """
    model.train()
    lr_at = partial(schedule, total=total, warmup=recipe.warmup)
    start = time.perf_counter()
    for number, (images, labels) in enumerate(feed):
        ready = time.perf_counter()
        set_lr(movers, lr_at(number))
        loss = loss_of(images, labels)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        if not math.isfinite(loss.item()) or not norm.isfinite():
            raise TrainingError(f"The loss of step {done + number + 1} is {loss.item()}, its gradient's norm {norm:g}.")
        for mover in movers:
            mover.step()
            mover.zero_grad()
        now, lr = time.perf_counter(), movers[-1].param_groups[0]["lr"]
        yield Step(done + number + 1, len(labels), loss.item(), 0, lr, now - start, ready - start)
        start = time.perf_counter()
