"""The features of images that a model has before its head: one vector per image.

Axes:  n images   d features
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.base.output import find_output, model_class
from vitral.data.preprocess import normalise
from vitral.store.classifier import Classifier
from vitral.store.image_features import find_head, recording_head_inputs


@dataclass(frozen=True)
class Embedding:
    """The features of some images, and in words which of the model's values these are."""

    features: Float[np.ndarray, "n d"]
    what: str


@torch.inference_mode()
def embed_pixels(model: Classifier, pixels: UInt8[np.ndarray, "n y x 3"]) -> Embedding:
    """What the head takes for each image, or what a model without a head returns, in float32 and eval mode.

    The images have the model's size already. Raises `UsageError` for a model that has not one vector per image.
    """
    if model.record.task == "segmentation":
        raise UsageError("A segmentation model has features of places. Specify a model with one vector per image.")
    images = normalise(torch.from_numpy(pixels).to(next(model.parameters()).device), model.preprocessing)
    head = find_head(model) if model.record.classes else None
    with evaluating(model), recording_head_inputs(model) as inputs:
        result = model(images)
    if head is None:
        return as_features(model, find_output(model, result, len(images)).tensor, len(images))
    found = inputs.array(len(images))
    if found is None:
        raise UsageError(
            f"The head of {model_class(model)}, {name_of(model, head)}, is not called once per image, so there is no "
            "single vector of features before it."
        )
    what = f"the input of the head, {name_of(model, head)} ({head.in_features} to {head.out_features})"
    return Embedding(found.astype(np.float32), what)


def as_features(model: nn.Module, output: Tensor, num_images: int) -> Embedding:
    """The output of a model without a head. Raises `UsageError` unless it is one vector per image."""
    if output.ndim != 2 or len(output) != num_images:
        raise UsageError(
            f"{model_class(model)} has no head and returns {tuple(output.shape)} for {num_images} images; one vector "
            "per image, (B, D), is needed."
        )
    return Embedding(output.float().cpu().numpy(), "the output of the model, which has no head")


def name_of(model: nn.Module, layer: nn.Module) -> str:
    """What the model calls one of its layers."""
    return next((repr(name) for name, part in model.named_modules() if part is layer), type(layer).__name__)
