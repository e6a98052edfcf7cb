"""Tensors of a class of their own, such as PyTorch's biases for causal attention, that a model makes while it runs.

PyTorch can make them from a plain tensor (`as_subclass`), but calling the class fails while any mode sees its
operators. So that is said, and what to do instead.
"""

import re

from torch import nn

from vitral.base.errors import WatchError

REFUSED = re.compile(r"Creating a new Tensor subclass (\w+) but the raw Tensor object is already associated")


def check_made_outside(model: nn.Module, error: BaseException | None) -> None:
    """Raise `WatchError` in place of PyTorch's error for a tensor of a class of its own, made in forward()."""
    found = REFUSED.search(str(error)) if isinstance(error, Exception) else None
    if found is None:
        return
    causal = (
        " For causal attention, pass is_causal=True (upper left) or a boolean mask, such as "
        "torch.ones(n, m).tril(m - n).bool()."
    )
    raise WatchError(
        f"{type(model).__name__} makes a tensor of the class {found[1]} while it runs, which PyTorch does not allow "
        "where its operators are watched. Make it once, in __init__, or use an ordinary tensor."
        + causal
        * (found[1] == "CausalBias")
    ) from error
