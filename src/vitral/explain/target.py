"""The classes that maps explain, as a user gives them.

Axes:  b images   k classes
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitral.base.errors import UsageError


def target_classes(logits: Float[Tensor, "b k"], target: int | Sequence[int] | Tensor) -> Int[Tensor, " b"]:
    """The class to explain for each image, as given. Raises `UsageError` for no such class."""
    count, num_classes = logits.shape
    message = f"target={target!r} is not a class: give its number, or one number per image."
    try:
        classes = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(message) from error
    whole = not (classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool)
    if classes.ndim > 1 or (classes.numel() and not whole):
        raise UsageError(message)
    classes = classes.long().expand(count) if classes.ndim == 0 else classes.long()
    if len(classes) != count:
        raise UsageError(f"target has {len(classes)} classes for {count} images: give one per image, or one for all.")
    if wrong := [int(index) for index in classes if not 0 <= index < num_classes]:
        raise UsageError(f"There is no class {wrong[0]}: the model has {num_classes}, 0 to {num_classes - 1}.")
    return classes
