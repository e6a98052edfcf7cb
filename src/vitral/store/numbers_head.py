"""Numbers in the unit of the data: mean + std · head(x), so that training sees numbers around 0 and users never do.

Axes:  b images   k numbers
"""

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.answers.numbers import deviation
from vitral.base.errors import ConfigError

MEAN = "unit_mean"  # the buffer by which a stored head is recognised


class NumbersHead(nn.Module):
    """A model's own `head`, whose outputs are scaled to the mean and standard deviation of the training images."""

    unit_mean: Tensor
    unit_std: Tensor

    def __init__(self, head: nn.Module, count: int):
        super().__init__()
        self.head = head
        self.register_buffer(MEAN, torch.zeros(count))
        self.register_buffer("unit_std", torch.ones(count))

    def forward(self, x: Tensor, *others: Any) -> Float[Tensor, "b k"]:
        # Never in half precision, in which a number has three digits.
        return self.scale(self.head(x, *others).to(self.unit_std.dtype))

    def scale(self, normalised: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        return normalised * self.unit_std + self.unit_mean

    @property
    def weight(self) -> Tensor:
        """The weight of a linear head."""
        return self.head.weight  # type: ignore[return-value]  # nn.Module types every attribute as Tensor or Module

    @property
    def bias(self) -> Tensor:
        return self.head.bias  # type: ignore[return-value]  # as above


def add_numbers_head(model: nn.Module, count: int, place: str | None = None) -> NumbersHead:
    """Put a `NumbersHead` around the head: at `place`, at `head`, or at the last linear layer with `count` outputs.

    Raises `ConfigError` for a model without such a layer.
    """
    if place is None:
        layers = [name for name, part in model.named_modules() if is_linear(part, count)]
        place = "head" if isinstance(getattr(model, "head", None), nn.Module) else layers[-1] if layers else None
    if place is None:
        raise ConfigError(
            f"{type(model).__name__} has no linear layer with {count} outputs and no `head`, so its numbers cannot be "
            "scaled to the unit of the data. End it in nn.Linear(..., num_classes)."
        )
    parent, _, name = place.rpartition(".")
    owner = model.get_submodule(parent)
    wrapped = NumbersHead(owner.get_submodule(name), count)
    wrapped.to(next(model.parameters()).device)
    setattr(owner, name, wrapped)
    return wrapped


@torch.no_grad()
def with_numbers_head(model: nn.Module, targets: Float[np.ndarray, "n k"], keeps_numbers: bool) -> None:
    """Scale the model's head to the mean and deviation of these targets.

    A new head begins around their mean; one that `keeps_numbers` goes on to give the numbers that it gave before.
    """
    mean, std = torch.from_numpy(targets.mean(axis=0)), torch.from_numpy(deviation(targets))
    head = add_numbers_head(model, targets.shape[1])
    head.unit_mean.copy_(mean)
    head.unit_std.copy_(std)
    for layer in last_layers(head.head, targets.shape[1]) if keeps_numbers else ():
        weight, bias = layer.weight.double(), layer.bias.double()
        layer.weight.copy_(weight / std[:, None])
        layer.bias.copy_((bias - mean) / std)


def is_linear(part: nn.Module, outputs: int) -> bool:
    return isinstance(part, nn.Linear) and part.out_features == outputs


def numbers_head_of(model: nn.Module) -> NumbersHead | None:
    """The model's `NumbersHead`; None if it has none."""
    return next((part for part in model.modules() if isinstance(part, NumbersHead)), None)


def linear_head(model: nn.Module) -> nn.Linear | None:
    """The model's head if it is one linear layer, also inside a `NumbersHead`."""
    head = getattr(model, "head", None)
    inner = head.head if isinstance(head, NumbersHead) else head
    return inner if isinstance(inner, nn.Linear) else None


def last_layers(head: nn.Module, count: int) -> list[nn.Linear]:
    """The linear layers that give the outputs of a head."""
    layers = [part for part in head.modules() if isinstance(part, nn.Linear) and part.out_features == count]
    # DeiT's two linear layers are averaged: each scaled, so is their mean. A head of several layers ends in one.
    return layers if type(head).__name__ == "DistilledHead" else layers[-1:]


@torch.no_grad()
def without_numbers_head(model: Any) -> Any:
    """The same function with the scale folded into the last linear layers; the model itself if there is no scale.

    Raises `ConfigError` for a head that does not end in linear layers whose mean or output it returns.
    """
    found = next(((name, part) for name, part in model.named_modules() if isinstance(part, NumbersHead)), None)
    if found is None:
        return model
    place, wrapped = found
    count = len(wrapped.unit_mean)
    folded = deepcopy(model)
    head = deepcopy(wrapped.head)
    ends = last_layers(head, count)
    if not ends or any(layer.bias is None for layer in ends):
        raise ConfigError(f"The scale of the numbers cannot be folded into a {type(head).__name__} as the head.")
    for layer in ends:
        weight, bias = layer.weight.double(), layer.bias.double()
        layer.weight.copy_(weight * wrapped.unit_std.double()[:, None])
        layer.bias.copy_(bias * wrapped.unit_std.double() + wrapped.unit_mean.double())
    parent, _, name = place.rpartition(".")
    setattr(folded.get_submodule(parent), name, head)
    return folded
