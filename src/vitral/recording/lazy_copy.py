"""A copy of a tensor that costs memory only once one of the two is written to."""

import torch
from jaxtyping import Shaped
from torch import Tensor


def lazy_copy(x: Shaped[Tensor, "*n"]) -> Shaped[Tensor, "*n"]:
    """The copy; a real one at once where NumPy, or a mapped file, owns the memory."""
    try:
        return torch._lazy_clone(x)
    except RuntimeError:
        return x.clone()
