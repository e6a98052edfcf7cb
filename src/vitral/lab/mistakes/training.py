"""What keeps a model from learning, or makes it learn otherwise."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.lab.station import Mistake

Optimizer = torch.optim.Optimizer


def rising_from_zero(step: int, steps: int, warmup: int, peak: float) -> float:
    return peak * step / warmup if step < warmup else down(step, steps, warmup, peak)


def rising_early(step: int, steps: int, warmup: int, peak: float) -> float:
    return peak * (step + 1) / warmup if step < warmup else down(step, steps, warmup, peak)


def falling_from_the_start(step: int, steps: int, warmup: int, peak: float) -> float:
    return up(step, warmup, peak) if step < warmup else down(step, steps, 0, peak)


def falling_straight(step: int, steps: int, warmup: int, peak: float) -> float:
    return up(step, warmup, peak) if step < warmup else peak * (steps - step) / (steps - warmup)


def falling_early(step: int, steps: int, warmup: int, peak: float) -> float:
    return up(step, warmup, peak) if step < warmup else down(step, steps - 1, warmup, peak)


def falling_below(step: int, steps: int, warmup: int, peak: float) -> float:
    return up(step, warmup, peak) if step < warmup else 2 * down(step, steps, warmup, peak) - peak


def falling_by_degrees(step: int, steps: int, warmup: int, peak: float) -> float:
    if step < warmup:
        return up(step, warmup, peak)
    return peak * (1 + math.cos(180 * (step - warmup) / (steps - warmup))) / 2


def up(step: int, warmup: int, peak: float) -> float:
    return peak * (step + 1) / (warmup + 1)


def down(step: int, steps: int, warmup: int, peak: float) -> float:
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def chosen(wanted: Callable[[str, nn.Parameter], bool]) -> dict[str, Any]:
    """A `decayed` by another rule."""

    def decayed(model: nn.Module) -> list[str]:
        return [name for name, parameter in model.named_parameters() if wanted(name, parameter)]

    return {"decayed": decayed}


def adding_up(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def emptied_between(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def not_moved(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


def of_probabilities(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    loss = F.cross_entropy(model(images).softmax(dim=-1), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def measured_after(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    kept(model, optimizer, images, labels)
    return F.cross_entropy(model(images), labels).item()


def kept(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> Tensor:
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def by_hand(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= optimizer.param_groups[0]["lr"] * parameter.grad
    return loss.item()


first_step_stands_still = Mistake(
    "The warm-up begins at a rate of 0, so the first step moves nothing.",
    "What is your rate at step 0? Which number of the line should the first step have?",
    {"learning_rate": rising_from_zero},
)
peak_too_early = Mistake(
    "The warm-up reaches the peak one step too early: its line has warmup + 1 parts.",
    "Is your rate the same at step `warmup` - 1 and at step `warmup`?",
    {"learning_rate": rising_early},
)
cosine_of_the_whole_run = Mistake(
    "The cosine counts from step 0, so the rate drops from the line where the warm-up ends: t begins at `warmup`.",
    "What is t at step `warmup`, and what is the rate there?",
    {"learning_rate": falling_from_the_start},
)
straight_down = Mistake(
    "The rate falls along a straight line; it should fall along half a cosine, slowly at both ends.",
    "How much of the peak is left after a third of the way down?",
    {"learning_rate": falling_straight},
)
zero_at_the_last = Mistake(
    "The cosine reaches 0 at the last step, steps - 1, which moves nothing; it should reach it at `steps`, one later.",
    "What is t at step `steps` - 1? Is it 1 yet?",
    {"learning_rate": falling_early},
)
half_forgotten = Mistake(
    "The cosine itself was taken, from 1 to -1: the rate falls below 0. Half of (1 + cosine) goes from 1 to 0.",
    "What is cos(π t) at t = 1?",
    {"learning_rate": falling_below},
)
tokens_decay = Mistake(
    "cls_token and pos_embed decay too: they have several axes, but they are added, they multiply nothing.",
    "Which parameters of two or more axes are the weight of no map?",
    chosen(lambda name, parameter: parameter.ndim > 1),
)
norms_decay = Mistake(
    "Weights were chosen by their name, so those of the norms decay too: they have a single axis.",
    "What is the shape of a LayerNorm's weight?",
    chosen(lambda name, parameter: name.endswith("weight")),
)
kernel_left_alone = Mistake(
    "Only parameters of exactly two axes decay, so the kernel of the patch embedding is left out: it has four.",
    "How many axes has the weight of a convolution?",
    chosen(lambda name, parameter: parameter.ndim == 2),
)
gradients_add_up = Mistake(
    "Gradients of the last step are still there when new ones come, and both are added up.",
    "What does `backward` do with a gradient that is there already?",
    {"train_step": adding_up},
)
gradients_thrown_away = Mistake(
    "When the optimizer moves, there are no gradients: `backward` is missing, or what it made is emptied before the "
    "update.",
    "What does `optimizer.step()` find if `backward` was not called, or `zero_grad` was called after it?",
    {"train_step": emptied_between},
)
never_updated = Mistake(
    "Gradients are computed, but the optimizer is never asked to move anything.",
    "Which line of yours changes the weights?",
    {"train_step": not_moved},
)
softmax_twice = Mistake(
    "The loss is taken of probabilities; F.cross_entropy wants logits, and takes the softmax itself.",
    "What does F.cross_entropy do first with what it is given?",
    {"train_step": of_probabilities},
)
loss_of_the_moved = Mistake(
    "The loss that comes back is that after the update, which costs a second run of the model; asked for is the one "
    "before it.",
    "How often does your step call the model?",
    {"train_step": measured_after},
)
graph_handed_out = Mistake(
    "The loss comes back as a tensor that still holds on to everything it was computed from; asked for is a number.",
    "How is a tensor of one number made into a float?",
    {"train_step": kept},
)
moved_by_hand = Mistake(
    "The weights are moved by hand, past the optimizer: with SGD it looks the same, with Adam it does not.",
    "If someone gives you another optimizer, what will change in your step?",
    {"train_step": by_hand},
)
degrees = Mistake(
    "The cosine was given degrees; math.cos takes an angle in which half a turn is π.",
    "What is math.cos(180), and what should be there at t = 1?",
    {"learning_rate": falling_by_degrees},
)
biases_decay = Mistake(
    "Only tokens and what has norm in its name were left out, so biases decay too: they have a single axis.",
    "How many axes has the bias of a linear map?",
    chosen(lambda name, parameter: not any(word in name for word in ("norm", "cls_token", "pos_embed"))),
)
