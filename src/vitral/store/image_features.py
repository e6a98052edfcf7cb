"""What is measured of images to tell how far they are from a model's training images.

Axes:  b n images   c channels   y x pixels   p patches   d features
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.feature_statistics import Distance, ImageFeatures
from vitral.base.modes import evaluating
from vitral.base.record import record_of
from vitral.store.numbers_head import linear_head

SIDE = 4  # pixels of a patch; small, so that it shows texture and noise, and has few numbers in any model
MOST = 16  # rows and columns of patches that are measured; of larger images every second, third, ... patch


@dataclass
class HeadInputs:
    """The inputs of a model's head, one tensor per forward pass."""

    seen: list[Float[Tensor, "b d"]] = field(default_factory=list)

    def array(self, num_images: int) -> Float[np.ndarray, "n d"] | None:
        """One row per image; None if the head was not called, or not once for all images of each pass."""
        rows = torch.cat(self.seen).numpy() if self.seen else np.empty((0, 0))
        return rows if len(rows) == num_images > 0 else None


def find_head(model: nn.Module) -> nn.Linear | None:
    """The linear layer that gives the model's answer: its head, or the last layer with one output per class."""
    if (head := linear_head(model)) is not None:
        return head
    record = record_of(model)
    count = len(record.classes) if record else 0
    layers = [part for part in model.modules() if isinstance(part, nn.Linear) and part.out_features == count]
    return layers[-1] if layers else None


@contextmanager
def recording_head_inputs(model: nn.Module) -> Iterator[HeadInputs]:
    """Record what the head takes in every forward pass inside the block; tokens of one image are averaged."""
    inputs, head = HeadInputs(), find_head(model)

    def record(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        x = arguments[0].detach().double().cpu()
        if x.ndim > 1 and x.numel():  # a model may drop the batch axis of a single image
            inputs.seen.append(x.reshape(len(x), -1, x.shape[-1]).mean(dim=1))

    handle = head.register_forward_pre_hook(record) if head is not None else None
    try:
        yield inputs
    finally:
        if handle is not None:
            handle.remove()


def patches_of(images: Float[Tensor, "b c y x"]) -> Float[np.ndarray, "b p d"]:
    """The patches of `SIDE` x `SIDE` pixels of images as the model takes them, evenly spaced in large images."""
    height, width = (min(SIDE, size) for size in images.shape[2:])
    rows, columns = images.shape[2] // height, images.shape[3] // width  # what is left at an edge is cut off
    whole = images[..., : rows * height, : columns * width].float().cpu()
    patches = rearrange(whole, "b c (gy y) (gx x) -> b gy gx (c y x)", y=height, x=width)
    patches = patches[:, :: -(-rows // MOST), :: -(-columns // MOST)]
    return patches.flatten(1, 2).numpy()


def image_features(model: nn.Module, images: Float[Tensor, "b c y x"]) -> ImageFeatures:
    """The features of images that are prepared for the model, from one forward pass in eval mode."""
    with evaluating(model), torch.no_grad(), recording_head_inputs(model) as inputs:
        model(images)
    return ImageFeatures(patches_of(images), inputs.array(len(images)))


def training_distances(
    model: nn.Module, images: Float[Tensor, "b c y x"], head_inputs: Float[np.ndarray, "b d"] | None = None
) -> list[Distance] | None:
    """The distance of each image from the model's training images; None if these are unknown.

    `head_inputs` is what the head took for these images, one row each; without them the model is run.
    """
    record = record_of(model)
    if record is None or record.feature_statistics is None:
        return None
    known = head_inputs is not None
    features = ImageFeatures(patches_of(images), head_inputs) if known else image_features(model, images)
    return record.feature_statistics.distances(features)
