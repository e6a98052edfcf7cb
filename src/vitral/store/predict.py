"""Class probabilities for images that are prepared for the model."""

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vitral.base.modes import evaluating
from vitral.data.preprocess import normalise
from vitral.store.classifier import Classifier

AT_ONCE = 64  # images per forward pass


def probabilities(model: Classifier, pixels: UInt8[np.ndarray, "n y x 3"]) -> Float[np.ndarray, "n k"]:
    """One row per image and one column per class, of images that have the model's size already."""
    device = next(model.parameters()).device
    rows = []
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(pixels), AT_ONCE):
            images = normalise(torch.from_numpy(pixels[start : start + AT_ONCE]).to(device), model.preprocessing)
            rows.append(model(images).float().softmax(dim=1).cpu())
    return torch.cat(rows).numpy()
