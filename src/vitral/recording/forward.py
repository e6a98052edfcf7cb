"""Run a model on images and find its output; translate what its own code raises into a sentence.

Axes:  b images   c channels   y x pixels
"""

import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ModelError, ShapeError, UsageError, VitralError, WatchError
from vitral.recording.calls import relative

LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parents[1])  # whose lines are not the model's own
SIZES = re.compile("size|shape|dimension|channel|height|width|resolution|divi|mat1", re.IGNORECASE)


def answer_of(result: Any) -> Tensor:
    """The tensor that a model gives: itself, or an output object's or dict's `logits`, or the first tensor in it."""
    if isinstance(result, Tensor):
        return result
    for name in ("logits", "pooler_output", "last_hidden_state"):
        if isinstance(found := part_of(result, name), Tensor):
            return found
    if isinstance(result, tuple | list) and result:
        return answer_of(result[0])
    raise UsageError(f"The model gives a {type(result).__name__}, in which no tensor was found to explain.")


def part_of(result: Any, name: str) -> Any:
    """What an output object or a dict holds under a name; None if it holds nothing."""
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)


def answered(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Tensor:
    """The tensor that the model gives for images. Raises what `run` raises, and `UsageError` for whole numbers."""
    return real(model, answer_of(run(model, images)))


def real(model: nn.Module, answer: Tensor) -> Tensor:
    """An answer in real numbers. Raises `UsageError` for one that is not: a class's number, say."""
    if not answer.is_floating_point():
        raise UsageError(
            f"{type(model).__name__} gives {answer.dtype}, and what is explained is a real number: let it give its "
            "scores, from before they are rounded or the largest is taken."
        )
    return answer


def run(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Any:
    """What the model gives for images.

    Raises `UsageError` if there are none, or if they or the model were made in inference mode where gradients are
    recorded; `ShapeError` if it refuses their shape; `ModelError` for any other error that it raises, with its place.
    """
    check_images(images)
    try:
        return model(untouched(images))
    except (VitralError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever the model's own code raises
        raise refusal(model, images, error) from error


def untouched(images: Tensor) -> Tensor:
    """A copy that a model may change; it takes no memory until the model does, but for memory that is NumPy's."""
    try:
        return torch._lazy_clone(images)
    except RuntimeError:
        return images.clone()


def check_images(images: object) -> None:
    """Raise `UsageError` for what is no batch of images, `ShapeError` for a tensor that is no (B, C, H, W)."""
    if not isinstance(images, Tensor):
        raise UsageError(
            f"Images are a tensor (B, C, H, W), as the model takes them, and a {type(images).__name__} was given. "
            "From loaded pictures: vitral.data.preprocess.preprocess(pictures, model.preprocessing)."
        )
    if images.ndim != 4:
        raise ShapeError(
            f"Images of shape {tuple(images.shape)} were given, and a batch is (B, C, H, W): one image is images[None]."
        )
    if not len(images):
        raise UsageError("There are no images: the batch is empty.")


def refusal(model: nn.Module, images: Tensor, error: Exception) -> VitralError:
    """What to say when a model raises an error."""
    name, shape = type(model).__name__, tuple(images.shape)
    said = next(iter(str(error).splitlines()), "")
    if isinstance(error, RuntimeError | ValueError | AssertionError) and SIZES.search(said):
        return ShapeError(f"{name} does not take images of shape {shape}: {said}")
    if isinstance(error, RuntimeError) and made_in_inference_mode(model, images):
        return UsageError(
            f"{name} or the images were made in torch.inference_mode(), where no gradient can be recorded. Make them "
            "outside of it, or take a method without gradients: attention, rollout, occlusion."
        )
    return ModelError(
        f"{name} raised {type(error).__name__}{place_of(error)} for images of shape {shape}{said and f': {said}'}"
    )


def made_in_inference_mode(model: nn.Module, images: Tensor) -> bool:
    """Whether something made in inference mode is used outside of it."""
    made = [images, *model.parameters(), *model.buffers()]
    return not torch.is_inference_mode_enabled() and any(tensor.is_inference() for tensor in made)


def place_of(error: Exception) -> str:
    """The innermost line of the model's own code that an error went through."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(Path(frame.filename).is_relative_to(home) for home in LIBRARIES)
    ]
    return f" in {frames[-1].filename}, line {frames[-1].lineno}," if frames else ""


def check_unchanged(watched: Tensor, plain: Tensor, tolerance: float) -> None:
    """Raise `WatchError` if watching changed what the model gives."""
    if not (difference := relative(watched, plain)) <= tolerance:
        raise WatchError(
            f"The model's output changed by {difference:.1e} of its largest value while it was watched, "
            "so no map is given."
        )


def logits_of(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
    """The model's answers. Raises what `run` raises, and `UsageError` if they score no classes."""
    result = run(model, images)
    logits = real(model, answer_of(result))
    bare = not isinstance(result, Tensor | tuple | list) and part_of(result, "logits") is None
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
