"""Which patches are outliers: their norm is far above the others' (Darcet et al. 2024, "Vision Transformers Need
Registers", §2.1).

Axes:  b images   n tokens   d width
"""

from jaxtyping import Bool, Float
from torch import Tensor

DEVIATIONS = 4.0  # above the mean of the image's patches


def outlying(tokens: Float[Tensor, "b n d"]) -> Bool[Tensor, "b n"]:
    """Patches whose norm is more than 4 standard deviations above the mean of their image."""
    norms = tokens.float().norm(dim=-1)
    return norms > norms.mean(dim=1, keepdim=True) + DEVIATIONS * norms.std(dim=1, keepdim=True)
