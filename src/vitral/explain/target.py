"""Which class of each image is explained.

Axes:  b images   k classes
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitral.base.errors import UsageError

Target = int | Sequence[int] | None


def classes_to_explain(logits: Float[Tensor, "b k"], target: Target) -> Int[Tensor, " b"]:
    """For each image the class asked for, or the one the model gives. Raises `UsageError` if it does not exist."""
    count, classes = logits.shape
    if target is None:
        return logits.argmax(dim=1)
    try:
        asked = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"target={target!r} is no class: give its number, or one for each image.") from error
    if (
        (asked.numel() and asked.is_floating_point())
        or asked.is_complex()
        or asked.dtype == torch.bool
        or asked.ndim > 1
    ):
        raise UsageError(f"target={target!r} is no class: give its number, or one for each image.")
    asked = asked.long().expand(count) if asked.ndim == 0 else asked.long()
    if len(asked) != count:
        raise UsageError(f"target names {len(asked)} classes for {count} images: give one for each, or one for all.")
    if wrong := [int(index) for index in asked if not 0 <= index < classes]:
        raise UsageError(f"There is no class {wrong[0]}: the model has {classes}, 0 to {classes - 1}.")
    return asked


def score_of(logits: Float[Tensor, "b k"], target: Target) -> Float[Tensor, " b"]:
    """The logit of the class to explain, one for each image."""
    return logits.gather(1, classes_to_explain(logits, target)[:, None])[:, 0]
