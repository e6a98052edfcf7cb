"""`shift`: each image moves by up to an eighth of its side, down or up and right or left; the border is repeated."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def shift(images: Float[Tensor, "b c y x"], seed: int) -> Float[Tensor, "b c y x"]:
    """Whole pixels, so that nothing is blurred."""
    count, _, height, width = images.shape
    generator = torch.Generator().manual_seed(seed)

    def source(side: int) -> Tensor:
        most = max(1, side // 8)
        moved = torch.randint(-most, most + 1, (count, 1), generator=generator)
        return (torch.arange(side) + moved).clamp(0, side - 1).to(images.device)

    rows, columns = source(height), source(width)
    each = torch.arange(count, device=images.device)[:, None, None]
    moved = images[each, :, rows[:, :, None], columns[:, None, :]]
    return rearrange(moved, "b y x c -> b c y x")
