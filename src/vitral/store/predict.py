"""Class probabilities for images of any size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vitral.data.image import load_image
from vitral.data.preprocess import batch_of
from vitral.store.classifier import Classifier

AT_ONCE = 64


def predict(model: Classifier, images: Sequence[str | Path | UInt8[np.ndarray, "_ _ 3"]]) -> Float[np.ndarray, "b k"]:
    """A row of probabilities for each image, in the order of `model.classes`.

    Images are paths, or as `load_image` gives. Raises `ImageError` for a file that is no image.
    """
    was_training = model.training
    model.eval()
    loaded = [image if isinstance(image, np.ndarray) else load_image(image) for image in images]
    device = next(model.parameters()).device
    with torch.inference_mode():
        rows = [
            model(batch_of(loaded[start : start + AT_ONCE], model.preprocessing).to(device))
            .float()
            .softmax(dim=1)
            .cpu()
            for start in range(0, len(loaded), AT_ONCE)
        ]
    model.train(was_training)
    return torch.cat(rows).numpy()
