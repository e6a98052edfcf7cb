"""Run a model on images, find its answer in what it returns, and turn what its own code raises into a sentence.

Axes:  b images   c channels   y x pixels   k classes
"""

import re
import traceback
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ModelError, ShapeError, UsageError, VitralError, WatchError
from vitral.base.output import Output, find_output
from vitral.recording.calls import relative_difference
from vitral.recording.lazy_copy import lazy_copy

TYPES = re.compile("dtype|scalar type|type|float|double|half|byte", re.IGNORECASE)
LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parents[1])  # their lines are not the model's own code
SIZES = re.compile("size|shape|dimension|channel|height|width|resolution|divi|mat1", re.IGNORECASE)


def forward(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Output:
    """Run the model once. Raises what `run_model` and `vitral.base.output.find_output` raise."""
    return find_output(model, run_model(model, images), len(images))


def model_output(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Tensor:
    """The tensor that the model returns for images, of any shape. Raises what `forward` raises."""
    return forward(model, images).tensor


def logits_of(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
    """The model's score per class. Raises what `forward` raises, and `UsageError` if the model scores no classes."""
    return class_scores(model, forward(model, images))


def class_scores(model: nn.Module, output: Output) -> Float[Tensor, "b k"]:
    """The scores in an output. Raises `UsageError` if they are not scores per class."""
    if not output.scores_classes:
        raise UsageError(
            f"{type(model).__name__} returns {tuple(output.tensor.shape)}, not one score per class (B, K), so there is "
            "no class to explain. Methods that need no class, such as attention and rollout, still work."
        )
    return output.tensor


def run_model(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Any:
    """What the model returns for images, whatever its type.

    Raises `UsageError` for an empty batch, or if the model or the images were made in inference mode where gradients
    are recorded; `ShapeError` if the model refuses their shape; `ModelError` for any other error, with its line.
    """
    check_images(images)
    try:
        return model(lazy_copy(images))
    except (VitralError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the model's own code may raise anything
        raise explain_error(model, images, error) from error


def check_images(images: object) -> None:
    """Raise `UsageError` for what is not a batch of images, `ShapeError` for a tensor that is not (B, C, H, W)."""
    if not isinstance(images, Tensor):
        raise UsageError(
            f"Images must be a tensor (B, C, H, W), prepared for the model, not a {type(images).__name__}. "
            "From loaded images: vitral.data.preprocess.batch_of(images, model.preprocessing)."
        )
    if images.ndim != 4:
        raise ShapeError(
            f"Images have shape {tuple(images.shape)}; a batch is (B, C, H, W). For one image: images[None]."
        )
    if not len(images):
        raise UsageError("There are no images: the batch is empty.")


def check_finite(images: Float[Tensor, "b c y x"]) -> None:
    """Raise `UsageError` for images that hold NaN or infinite values, or no values at all."""
    if images.is_meta:
        raise UsageError("The images are on the meta device, which holds no values: make them on a device that does.")
    finite = images.isfinite()
    if finite.all():
        return
    number, channel, row, column = (int(place) for place in (~finite).nonzero()[0])
    count = int((~finite).sum())
    raise UsageError(
        f"images[{number}] is {float(images[number, channel, row, column])} in channel {channel}, row {row}, column "
        f"{column}{f', and {count - 1} more values of the images are not finite' * (count > 1)}. Check how the images "
        "were made: a division by zero, or a standard deviation of zero in normalising."
    )


def explain_error(model: nn.Module, images: Tensor, error: Exception) -> VitralError:
    """The error to raise in place of one that the model's code raised."""
    name, shape = type(model).__name__, tuple(images.shape)
    message = next(iter(str(error).splitlines()), "")
    if "TorchScript interpreter" in message:  # it says that it failed; its last line says why
        reason = str(error).strip().splitlines()[-1].removeprefix("RuntimeError:").strip()
        message = f"{reason} A traced model takes the sizes that it was traced with.".strip()
    if mismatch := mismatch_of(model, images, message):
        return UsageError(f"{name} {mismatch}")
    if isinstance(error, RuntimeError | ValueError | AssertionError) and SIZES.search(message):
        return ShapeError(f"{name} does not take images of shape {shape}: {message}")
    if isinstance(error, RuntimeError) and made_in_inference_mode(model, images):
        return UsageError(
            f"{name} or the images were made in torch.inference_mode(), where no gradient can be recorded. Make them "
            "outside of it, or use occlusion, which records none."
        )
    return ModelError(
        f"{name} raised {type(error).__name__}{line_of(error)} for images of shape {shape}{message and f': {message}'}"
    )


def mismatch_of(model: nn.Module, images: Tensor, message: str) -> str:
    """Where the images differ from the model in device or precision, if an error may come of that."""
    weights = next((value for value in model.parameters() if value.is_floating_point()), None)
    if weights is None:
        return ""
    if weights.is_meta:
        return "is on the meta device, where weights have no values. Load it on a device that holds them."
    if weights.device != images.device:
        device = str(weights.device)
        return f"is on {device} and the images are on {images.device}. Move them: images.to({device!r})."
    if weights.dtype != images.dtype and TYPES.search(message):
        return (
            f"has {weights.dtype} weights and the images are {images.dtype}. Convert them: images.to({weights.dtype})."
        )
    return ""


def made_in_inference_mode(model: nn.Module, images: Tensor) -> bool:
    """Whether a tensor made in inference mode is used outside of it."""
    tensors = [images, *model.parameters(), *model.buffers()]
    return not torch.is_inference_mode_enabled() and any(tensor.is_inference() for tensor in tensors)


def line_of(error: Exception) -> str:
    """The innermost line of the model's own code that raised an error."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(Path(frame.filename).is_relative_to(home) for home in LIBRARIES)
    ]
    return f" in {frames[-1].filename}, line {frames[-1].lineno}," if frames else ""


def check_unchanged(watched: Tensor, plain: Tensor, tolerance: float) -> None:
    """Raise `WatchError` if watching changed what the model returns, or if that holds NaN."""
    check_answer(plain)
    if not (difference := relative_difference(watched, plain)) <= tolerance:
        raise WatchError(
            f"The model's output changed by {difference:.1e} of its largest value while it was watched, "
            "so there is no map. A model with random outputs, or one that every forward pass changes, cannot be "
            "explained: use nn.Dropout, which eval mode turns off, rather than F.dropout, and seed any other random "
            "numbers in forward()."
        )


def check_answer(answer: Tensor) -> None:
    """Raise `WatchError` for a model's answer that holds NaN."""
    if not answer.isnan().any():
        return
    count = sum(bool(of_image.isnan().any()) for of_image in answer) if answer.ndim else 1
    raise WatchError(
        f"The model's output holds NaN for {count} of {len(answer) if answer.ndim else 1} images, so there is "
        "nothing to explain. Check its weights for NaN and, in half precision, its activations for overflow."
    )
