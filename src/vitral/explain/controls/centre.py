"""`centre`: the nearer to the middle of the image the more, whatever is in it (as in Kümmerer et al. 2015, §2).

Axes:  b images   gy gx rows, columns of patches
"""

import torch

from vitral.explain.method import PatchMap, method
from vitral.explain.observation import Observation, Target
from vitral.recording.indices import Grid


@method()
def centre(observation: Observation, target: Target = None, *, grid: Grid | None = None) -> PatchMap:
    """A Gaussian with a deviation of a quarter of each side around the middle, the same for every image.

    Raises `WatchError` if no `grid` is given and the model makes no maps whose grid it could take.
    """
    grid = grid or observation.patch_grid()
    y, x = (((torch.arange(n) + 0.5) / n - 0.5) * 4 for n in grid)
    values = torch.exp(-(y[:, None] ** 2 + x**2) / 2).expand(len(observation.images), *grid)
    return PatchMap(values, grid, "This map shows the middle of the image.", layers=("none",))
