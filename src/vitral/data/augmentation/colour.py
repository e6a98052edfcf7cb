"""`colour`: red, green and blue change places at random, and each may turn into its complement.

For images whose colours mean nothing: a set drawn in uniform colours looks the same after it,
and is 48 times as large.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def colour(images: Float[Tensor, "b c y x"], seed: int) -> Float[Tensor, "b c y x"]:
    """Exact where values lie evenly around zero, as they do after a mean of one half."""
    count, channels = images.shape[:2]
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(count, channels, generator=generator).argsort(dim=1).to(images.device)
    sign = torch.randint(0, 2, (count, channels, 1, 1), generator=generator).to(images) * 2 - 1
    return (images * sign)[torch.arange(count, device=images.device)[:, None], order]
