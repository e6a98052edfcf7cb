"""The images are cast to float32 on the way, so dtype and precision are not kept.
Shows for float64 (rounded), float16 and integer images; float32 is right."""

import torch.nn.functional as F
from torch import Tensor


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Images (batch, channels, height, width) -> patches (batch, number of patches, channels x patch_size²)."""
    columns = F.unfold(images.float(), kernel_size=patch_size, stride=patch_size)  # unfold refuses uint8
    return columns.transpose(1, 2)
