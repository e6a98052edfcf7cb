"""Class probabilities for images of any size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.data.image import load_image
from vitral.data.preprocess import crop_and_resize, normalise
from vitral.store.classifier import Classifier

AT_ONCE = 64

Image = str | Path | UInt8[np.ndarray, "_ _ 3"]


def predict(model: Classifier, images: Image | Sequence[Image]) -> Float[np.ndarray, "b k"]:
    """A row of probabilities for each image, in the order of `model.classes`.

    An image is a path, or as `load_image` gives it. Raises `ImageError` for a file that is no image, `UsageError` if
    there are none.
    """
    several = [images] if isinstance(images, str | Path | np.ndarray) else images
    if not len(several):
        raise UsageError("There are no images to predict.")
    cut = [
        crop_and_resize(image if isinstance(image, np.ndarray) else load_image(image), model.preprocessing)
        for image in several
    ]
    return probabilities(model, np.stack(cut))


def probabilities(model: Classifier, pixels: UInt8[np.ndarray, "b y x 3"]) -> Float[np.ndarray, "b k"]:
    """The same for images that are cut to the model's size already."""
    device = next(model.parameters()).device
    rows = []
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(pixels), AT_ONCE):
            images = normalise(torch.from_numpy(pixels[start : start + AT_ONCE]).to(device), model.preprocessing)
            rows.append(model(images).float().softmax(dim=1).cpu())
    return torch.cat(rows).numpy()
