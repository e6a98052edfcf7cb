"""Mistakes in training: the learning rate, the weight decay, and the step."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.lab.solutions.training import train_step
from vitral.lab.station import mistake

Optimizer = torch.optim.Optimizer


def warm_up(step: int, warmup: int, peak: float) -> float:
    return peak * (step + 1) / (warmup + 1)


def decay(step: int, steps: int, warmup: int, peak: float) -> float:
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def compute_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the loss; its gradients are added to those that are there."""
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    return loss


@mistake("learning_rate")
def first_step_stands_still(step: int, steps: int, warmup: int, peak: float) -> float:
    """The warm-up starts at a rate of 0, so that the first step changes nothing.

    What is your rate at step 0? What should it be?
    """
    return peak * step / warmup if step < warmup else decay(step, steps, warmup, peak)


@mistake("learning_rate")
def peak_too_early(step: int, steps: int, warmup: int, peak: float) -> float:
    """The warm-up reaches the peak one step too early: the line has warmup + 1 parts.

    Is your rate at step `warmup` - 1 the same as at step `warmup`?
    """
    return peak * (step + 1) / warmup if step < warmup else decay(step, steps, warmup, peak)


@mistake("learning_rate")
def cosine_of_the_whole_run(step: int, steps: int, warmup: int, peak: float) -> float:
    """The cosine counts from step 0, so that the rate jumps down at the end of the warm-up; t starts at `warmup`.

    What is t at step `warmup`, and what is the rate there?
    """
    return warm_up(step, warmup, peak) if step < warmup else decay(step, steps, 0, peak)


@mistake("learning_rate")
def straight_down(step: int, steps: int, warmup: int, peak: float) -> float:
    """The rate falls along a straight line; it should fall along half a cosine, slowly at both ends.

    How much of the peak is left after a third of the way down?
    """
    return warm_up(step, warmup, peak) if step < warmup else peak * (steps - step) / (steps - warmup)


@mistake("learning_rate")
def zero_at_the_last(step: int, steps: int, warmup: int, peak: float) -> float:
    """The cosine reaches 0 at the last step, steps - 1, which then changes nothing; it should reach 0 at `steps`.

    What is t at step `steps` - 1? Is it 1 yet?
    """
    return warm_up(step, warmup, peak) if step < warmup else decay(step, steps - 1, warmup, peak)


@mistake("learning_rate")
def half_forgotten(step: int, steps: int, warmup: int, peak: float) -> float:
    """The rate follows the cosine itself, from 1 to -1, and falls below 0. Half of (1 + cosine) runs from 1 to 0.

    What is cos(π t) at t = 1?
    """
    return warm_up(step, warmup, peak) if step < warmup else 2 * decay(step, steps, warmup, peak) - peak


@mistake("decayed")
def tokens_decay(model: nn.Module) -> list[str]:
    """cls_token and pos_embed are listed too. They have several axes, but they are added and multiply nothing.

    Which parameters with two or more axes are not the weight of a layer?
    """
    return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]


@mistake("decayed")
def norms_decay(model: nn.Module) -> list[str]:
    """The parameters are chosen by the name `weight`, which includes the norms; their weight has one axis.

    What is the shape of a LayerNorm's weight?
    """
    return [name for name, _ in model.named_parameters() if name.endswith("weight")]


@mistake("decayed")
def kernel_left_alone(model: nn.Module) -> list[str]:
    """Only parameters with exactly two axes are listed; the kernel of the patch embedding has four.

    How many axes does the weight of a convolution have?
    """
    return [name for name, parameter in model.named_parameters() if parameter.ndim == 2]


@mistake("train_step")
def gradients_add_up(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    """The gradients of the last step are still there when the new ones are computed, and both are added up.

    What does `backward` do if there is a gradient already?
    """
    loss = compute_gradients(model, images, labels)
    optimizer.step()
    return loss.item()


@mistake("train_step")
def gradients_thrown_away(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    """There are no gradients when the optimizer updates: `backward` is missing, or its result is cleared before the
    update.

    What does `optimizer.step()` use if `backward` is not called, or `zero_grad` is called after it?
    """
    loss = compute_gradients(model, images, labels)
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


@mistake("train_step")
def never_updated(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    """Gradients are computed, but the optimizer never updates the weights.

    Which of your lines changes the weights?
    """
    optimizer.zero_grad()
    return compute_gradients(model, images, labels).item()


@mistake("train_step")
def softmax_twice(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    """The loss is computed from probabilities; F.cross_entropy takes logits and applies the softmax itself.

    What does F.cross_entropy do first with its input?
    """
    return train_step(nn.Sequential(model, nn.Softmax(dim=-1)), optimizer, images, labels)


@mistake("train_step")
def loss_of_the_moved(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    """The returned loss is the one after the update, which costs a second pass; it should be the one before it.

    How often does your step call the model?
    """
    train_step(model, optimizer, images, labels)
    return F.cross_entropy(model(images), labels).item()


@mistake("train_step")
def graph_handed_out(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> Tensor:
    """The loss is returned as a tensor, which keeps its whole computation in memory; it should be a float.

    How do you turn a tensor of one number into a float?
    """
    optimizer.zero_grad()
    loss = compute_gradients(model, images, labels)
    optimizer.step()
    return loss


@mistake("train_step")
def moved_by_hand(model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor) -> float:
    """Your code updates the weights itself, without the optimizer: right for SGD, wrong for Adam.

    If you get another optimizer, what changes in your step?
    """
    optimizer.zero_grad()
    loss = compute_gradients(model, images, labels)
    torch.optim.SGD(model.parameters(), optimizer.param_groups[0]["lr"]).step()
    return loss.item()


@mistake("learning_rate")
def degrees(step: int, steps: int, warmup: int, peak: float) -> float:
    """The angle of the cosine is in degrees; math.cos takes radians, in which half a turn is π.

    What is math.cos(180), and what should the cosine be at t = 1?
    """
    t = (step - warmup) / (steps - warmup)
    return warm_up(step, warmup, peak) if step < warmup else peak * (1 + math.cos(180 * t)) / 2


@mistake("decayed")
def biases_decay(model: nn.Module) -> list[str]:
    """Only the tokens and the norms are left out, so that biases are listed too; they have one axis.

    How many axes does the bias of a linear layer have?
    """
    excluded = ("norm", "cls_token", "pos_embed")
    return [name for name, _ in model.named_parameters() if not any(word in name for word in excluded)]
