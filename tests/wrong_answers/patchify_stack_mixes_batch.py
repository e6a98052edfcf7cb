"""The patches are stacked in front of the batch and reshaped instead of transposed: patches go to other images.
Shows for batches of two or more (and more than one patch); a single image is right."""

import torch
from torch import Tensor


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Images (batch, channels, height, width) -> patches (batch, number of patches, channels x patch_size²)."""
    batch, _, height, width = images.shape
    pieces = []
    for top in range(0, height, patch_size):
        for left in range(0, width, patch_size):
            square = images[:, :, top : top + patch_size, left : left + patch_size]
            pieces.append(square.reshape(batch, -1))
    return torch.stack(pieces).reshape(batch, len(pieces), -1)
