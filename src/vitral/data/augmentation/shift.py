"""`shift`: shifts each image by up to 1/8 of its side, vertically and horizontally; the border is repeated."""

import torch
from einops import rearrange
from torch import Tensor

from vitral.data.augment import Images, Masks


def shift(images: Images, masks: Masks | None, generator: torch.Generator) -> tuple[Images, Masks | None]:
    """By whole pixels, so that nothing is blurred."""
    count, _, height, width = images.shape

    def source_of(side: int) -> Tensor:
        """For each image, the pixel that each pixel along a side is copied from."""
        largest = max(1, side // 8)
        offset = torch.randint(-largest, largest + 1, (count, 1), generator=generator)
        return (torch.arange(side) + offset).clamp(0, side - 1).to(images.device)

    rows, columns = source_of(height)[:, :, None], source_of(width)[:, None, :]
    each = torch.arange(count, device=images.device)[:, None, None]
    # Indices on both sides of a slice put the channels last.
    shifted = rearrange(images[each, :, rows, columns], "b y x c -> b c y x")
    return shifted, None if masks is None else masks[each, rows, columns]
