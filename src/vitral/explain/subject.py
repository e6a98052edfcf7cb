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
    """The tensor that the model gives for images. Raises `ShapeError` if it refuses them."""
    return answer_of(run(model, images))


def run(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Any:
    """What the model gives for images. Raises `ShapeError` if it refuses them, `UsageError` if there are none."""
    if not len(images):
        raise UsageError("There are no images: the batch is empty.")
    try:
        return model(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        if isinstance(error, VitralError | torch.OutOfMemoryError):
            raise
        if "nference" in str(error):  # what PyTorch says of tensors made in inference mode
            raise UsageError(
                f"{type(model).__name__} or the images were made in torch.inference_mode(), where no gradient can be "
                "recorded. Make them outside of it, or take a method without gradients: attention, rollout, occlusion."
            ) from error
        raise ShapeError(
            f"{type(model).__name__} does not take images of shape {tuple(images.shape)}: {str(error).splitlines()[0]}"
        ) from error


def logits_of(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
    """The model's answers. Raises `UsageError` if they score no classes, `ShapeError` if it refuses the images."""
    result = run(model, images)
    logits = answer_of(result)
    bare = not isinstance(result, Tensor | tuple | list) and getattr(result, "logits", None) is None
    if logits.ndim != 2 or bare or headless(model):
        raise UsageError(
            f"{type(model).__name__} gives {tuple(logits.shape)}, not a score for each class (B, K), so there is no "
            "class to explain. Methods that need no class, such as attention and rollout, still work."
        )
    return logits


def headless(model: nn.Module) -> bool:
    """Whether a model says of itself that it has no classes."""
    config = getattr(model, "config", None)
    return getattr(model, "num_classes", config.get("num_classes") if isinstance(config, dict) else None) == 0


def classes_to_explain(logits: Float[Tensor, "b k"], target: Target) -> Int[Tensor, " b"]:
    """For each image the class asked for, or the one the model gives. Raises `UsageError` if it does not exist."""
    count, classes = logits.shape
    if target is None:
        return logits.argmax(dim=1)
    try:
        asked = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"target={target!r} is no class: give its number, or one for each image.") from error
    if asked.is_floating_point() or asked.is_complex() or asked.dtype == torch.bool or asked.ndim > 1:
        raise UsageError(f"target={target!r} is no class: give its number, or one for each image.")
    asked = asked.expand(count) if asked.ndim == 0 else asked
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
    if not isinstance(wanted, Sequence | range) or not all(isinstance(index, int) for index in wanted):
        raise UsageError(f"{what}s={chosen!r} is no list of numbers, as in {what}s=[0].")
    if not len(wanted):
        raise UsageError(f"No {what} was chosen: the model has {count}, 0 to {count - 1}.")
    if wrong := [index for index in wanted if not -count <= index < count]:
        raise UsageError(f"There is no {what} {', '.join(map(str, wrong))}: the model has {count}, 0 to {count - 1}.")
    return [index % count for index in wanted]


@torch.no_grad()
def pixels_of(model: nn.Module, images: Float[Tensor, "b c y x"]) -> UInt8[np.ndarray, "b y x 3"]:
    """The pixels that the model saw, back in 0..255; without a `preprocessing`, from least to largest."""
    if (preprocessing := getattr(model, "preprocessing", None)) is None:
        least = images.min()
        span = (images.max() - least).clamp_min(1e-12)
        pixels = (images[:, :3] - least).div_(span)
    else:
        mean, std = (
            torch.tensor(value, device=images.device)[:, None, None]
            for value in (preprocessing.mean, preprocessing.std)
        )
        pixels = (images * std).add_(mean)[:, :3]
    pixels = pixels.mul_(255).round_().clamp_(0, 255).to(torch.uint8)  # in place: images may be large
    return rearrange(pixels.expand(-1, 3, -1, -1), "b c y x -> b y x c").cpu().numpy()
