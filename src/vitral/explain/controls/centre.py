"""`centre`: the nearer to the middle of the image the more, whatever is in it (as in Kümmerer et al. 2015, §2).

Axes:  b images   gy gx rows, columns of patches
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.explain.feature_maps import grid_of
from vitral.explain.maps import Maps
from vitral.explain.one_map import one_map
from vitral.explain.target import Target
from vitral.recording.roles import Grid


def centre(
    model: nn.Module, images: Float[Tensor, "b c y x"], target: Target = None, *, grid: Grid | None = None
) -> Maps:
    """A Gaussian of a quarter of each side around the middle, the same for every image.

    Raises `WatchError` if no `grid` is given and the model makes no maps whose grid it could take.
    """
    with evaluating(model):
        grid = grid or grid_of(model, images)
    y, x = (((torch.arange(n) + 0.5) / n - 0.5) * 4 for n in grid)
    values = torch.exp(-(y[:, None] ** 2 + x**2) / 2).expand(len(images), *grid)
    return one_map("centre", "Shown is the middle of the image.", model, images, values, grid, layers="none")
