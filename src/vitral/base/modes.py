"""Use a model as it is in use, and leave it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vitral.base.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def evaluating(model: "nn.Module") -> Iterator[None]:
    """Eval mode inside the block; afterwards each part of the model is in the mode it was in.

    Raises `UsageError` for what is no model.
    """
    if not callable(getattr(model, "modules", None)):
        raise UsageError(
            f"A model is a torch.nn.Module, and a {type(model).__name__} was given. Load one: vitral.load(PATH)."
        )
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def frozen(model: "nn.Module") -> Iterator[None]:
    """No parameter asks for a gradient inside the block; afterwards those do that did.

    Where gradients are off, PyTorch's view of such a parameter still asks for one, and its counters stumble over that.
    """
    before = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in before:
            parameter.requires_grad = True
