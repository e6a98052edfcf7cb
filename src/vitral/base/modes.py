"""Context managers that change a model's state for a block and restore it afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vitral.base.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def evaluating(model: "nn.Module") -> Iterator[None]:
    """Eval mode inside the block; afterwards each submodule returns to its own mode.

    Raises `UsageError` if `model` is not a `torch.nn.Module`.
    """
    from torch import nn

    if not isinstance(model, nn.Module):
        raise UsageError(
            f"A model is a torch.nn.Module, but a {type(model).__name__} was passed. Load one: vitral.load(PATH)."
        )
    # One flag for the whole model would not do: a frozen part, such as a batch norm, may be in eval mode on purpose.
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def frozen(model: "nn.Module") -> Iterator[None]:
    """No parameter requires a gradient inside the block; afterwards the same ones do as before.

    `torch.no_grad` is not enough: a view of a parameter still requires a gradient there, which PyTorch's FLOP counter
    does not accept.
    """
    before = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in before:
            parameter.requires_grad = True
