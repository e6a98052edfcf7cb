"""The width is unfolded before the height, so the pixels of every patch are transposed (column by column).
Shows for every image whose patches are not symmetric, patch_size > 1."""

from torch import Tensor


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Images (batch, channels, height, width) -> patches (batch, number of patches, channels x patch_size²)."""
    windows = images.unfold(3, patch_size, patch_size).unfold(2, patch_size, patch_size)
    # batch, channels, patch row, patch column, pixels, pixels
    windows = windows.permute(0, 2, 3, 1, 4, 5)
    return windows.flatten(1, 2).flatten(2)
