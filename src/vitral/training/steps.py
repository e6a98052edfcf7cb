"""The training loop, as a generator: its caller decides when to log, evaluate, save and stop."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitral.base.answer import Answer, Loss
from vitral.base.errors import TrainingError
from vitral.base.output import find_answer
from vitral.training.optim import set_lr
from vitral.training.processes import ALONE, Processes
from vitral.training.timing import StepClock

RECENT = 50  # steps over which rates and running means are taken


@dataclass(frozen=True)
class Step:
    """One update. `number` counts from 1.

    `correct` is the number of images answered correctly, None where an answer is not simply right or wrong. `seconds`
    has four parts: `waiting` for the batch, `forward` with the loss, `backward` with the exchange of gradients between
    processes, and `optimizer` with clipping. The last three are None for steps of an older version.
    """

    number: int
    images: int
    loss: float
    correct: int | None
    lr: float
    seconds: float
    waiting: float
    forward: float | None = None
    backward: float | None = None
    optimizer: float | None = None


def steps(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizers: Sequence[torch.optim.Optimizer],
    lr_at: Callable[[int], float],
    autocast: Callable[[], AbstractContextManager[object]],
    clip: float,
    answer: Answer,
    loss_of: Loss,
    done: int = 0,
    parts: int = 1,
    processes: Processes = ALONE,
) -> Iterator[Step]:
    """Train on each batch of (images, labels) and yield a `Step` for it; `done` steps were taken before.

    `answer` is the task, and `loss_of` its loss, as `answer.loss` gives it for the training data. One process alone
    computes a batch in so many `parts`, whose gradients are added, each by how much its images count in the loss. Of
    several `processes` each gets its part of the images, and the labels of the whole batch, of which the loss is.

    Raises `TrainingError` at the first loss or gradient that is not finite, before it changes the weights; `UsageError`
    if what the model returns is not an answer of its task.
    """
    train_mode(model)
    clock = StepClock(next(model.parameters()).device)
    for number, (images, labels) in enumerate(batches, done + 1):
        clock.lap("waiting")
        fraction = lr_at(number - 1)
        set_lr(optimizers, fraction)
        value, corrects = 0.0, list[int | None]()
        # A batch is in the order in which its images were read, by class: every n-th image is a fair sample of it.
        for place in range(min(parts, len(labels))):
            own, right = images[place::parts].contiguous(), labels[place::parts]
            with autocast():
                logits = processes.whole(find_answer(model, model(own), own).tensor, len(right))
                loss = loss_of(logits.float(), right) * loss_of.share(right, labels)
            value += loss.item()
            if not math.isfinite(value):
                raise TrainingError(f"The loss is {value} at step {number}. Use a lower --lr, or --precision float32.")
            corrects.append(answer.correct(logits, right))
            clock.lap("forward")
            loss.backward()
            clock.lap("backward")
        processes.sum_gradients(model)
        clock.lap("backward")
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
        if not norm.isfinite():
            raise TrainingError(
                f"The norm of the gradient is {norm:g} at step {number}. Use a lower --lr, or --precision float32."
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        clock.lap("optimizer")
        known = [one for one in corrects if one is not None]
        correct = sum(known) if len(known) == len(corrects) else None
        lr = optimizers[-1].param_groups[0]["lr"]
        yield Step(number, len(labels), value, correct, lr, clock.total, **clock.seconds)
        clock.restart()


def train_mode(model: nn.Module) -> None:
    """Train mode, but for parts whose parameters are all frozen: a batch norm among them keeps its statistics."""
    model.train()
    for part in model.modules():
        own = list(part.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            part.eval()
