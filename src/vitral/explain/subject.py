"""What every method asks of a model: its answers, the class to explain, the grid, the pixels it saw.

Axes:  b images   k classes   c channels   y x pixels
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from vitral.base.errors import ShapeError, UsageError, VitralError, WatchError
from vitral.explain.calls import relative

Target = int | Sequence[int] | None


def answer_of(result: Any) -> Tensor:
    """The tensor that a model gives: itself, or an output object's `logits`, or the first tensor in it."""
    if isinstance(result, Tensor):
        return result
    for name in ("logits", "pooler_output", "last_hidden_state"):
        if isinstance(found := getattr(result, name, None), Tensor):
            return found
    if isinstance(result, tuple | list) and result:
        return answer_of(result[0])
    raise UsageError(f"The model gives a {type(result).__name__}, in which no tensor was found to explain.")


def answered(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Tensor:
    """What the model gives for images. Raises `ShapeError` if it refuses them."""
    try:
        return answer_of(model(images))
    except (RuntimeError, ValueError, AssertionError) as error:
        if isinstance(error, VitralError | torch.OutOfMemoryError):
            raise
        raise ShapeError(
            f"{type(model).__name__} does not take images of shape {tuple(images.shape)}: {str(error).splitlines()[0]}"
        ) from error


def logits_of(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
    """The model's answers. Raises `UsageError` if they score no classes, `ShapeError` if it refuses the images."""
    logits = answered(model, images)
    if logits.ndim != 2:
        raise UsageError(
            f"{type(model).__name__} gives {tuple(logits.shape)}, not a score for each class (B, K), so there is no "
            "class to explain. Methods that need no class, such as attention and rollout, still work."
        )
    return logits


def classes_to_explain(logits: Float[Tensor, "b k"], target: Target) -> Int[Tensor, " b"]:
    """For each image the class asked for, or the one the model gives. Raises `UsageError` if it does not exist."""
    count, classes = logits.shape
    if target is None:
        return logits.argmax(dim=1)
    asked = torch.as_tensor([target] * count if isinstance(target, int) else list(target), device=logits.device)
    if len(asked) != count:
        raise UsageError(f"target names {len(asked)} classes for {count} images: give one for each, or one for all.")
    if wrong := [int(index) for index in asked if not 0 <= index < classes]:
        raise UsageError(f"There is no class {wrong[0]}: the model has {classes}, 0 to {classes - 1}.")
    return asked


def score_of(logits: Float[Tensor, "b k"], target: Target) -> Float[Tensor, " b"]:
    """The logit of the class to explain, one for each image."""
    return logits.gather(1, classes_to_explain(logits, target)[:, None])[:, 0]


def check_unchanged(watched: Tensor, plain: Tensor, tolerance: float) -> None:
    """Raise `WatchError` if watching changed what the model gives."""
    if not (difference := relative(watched, plain)) <= tolerance:
        raise WatchError(
            f"The model's output changed by {difference:.1e} of its largest value while it was watched, "
            "so no map is given."
        )


def pick(chosen: Sequence[int] | None, count: int, what: str) -> list[int]:
    """The indices asked for, or all; negative ones count from the end."""
    wanted = range(count) if chosen is None else chosen
    if not len(wanted):
        raise UsageError(f"No {what} was chosen: the model has {count}, 0 to {count - 1}.")
    if wrong := [index for index in wanted if not -count <= index < count]:
        raise UsageError(f"There is no {what} {', '.join(map(str, wrong))}: the model has {count}, 0 to {count - 1}.")
    return [index % count for index in wanted]


def pixels_of(model: nn.Module, images: Float[Tensor, "b c y x"]) -> UInt8[np.ndarray, "b y x 3"]:
    """The pixels that the model saw, back in 0..255; without a `preprocessing`, from least to largest."""
    if (preprocessing := getattr(model, "preprocessing", None)) is None:
        scaled = (images - images.min()) / (images.max() - images.min()).clamp_min(1e-12)
    else:
        mean, std = (
            torch.tensor(value, device=images.device)[:, None, None]
            for value in (preprocessing.mean, preprocessing.std)
        )
        scaled = images * std + mean
    pixels = (scaled[:, :3].expand(-1, 3, -1, -1) * 255).round().clamp(0, 255).to(torch.uint8)
    return rearrange(pixels, "b c y x -> b y x c").cpu().numpy()
