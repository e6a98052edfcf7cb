"""Class probabilities for images of any size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.data.image import load_image
from vitral.data.preprocess import batch_of
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
    loaded = [image if isinstance(image, np.ndarray) else load_image(image) for image in several]
    device = next(model.parameters()).device
    rows = []
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(loaded), AT_ONCE):
            batch = batch_of(loaded[start : start + AT_ONCE], model.preprocessing).to(device)
            rows.append(model(batch).float().softmax(dim=1).cpu())
    return torch.cat(rows).numpy()
