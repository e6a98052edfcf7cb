"""`edges`: where the image itself changes most (the edge detector that Adebayo et al. 2018, §5.1, compare maps with).

Axes:  b images   c channels   y x pixels   gy gx rows, columns of patches
"""

import torch
import torch.nn.functional as F

from vitral.explain.method import PatchMap, method
from vitral.explain.metric import patch_means
from vitral.explain.observation import Observation, Target
from vitral.recording.indices import Grid


@method()
def edges(observation: Observation, target: Target = None, *, grid: Grid | None = None) -> PatchMap:
    """The squared differences of neighbouring pixels, summed over channels and averaged over each patch.

    Raises `WatchError` if no `grid` is given and the model makes no maps whose grid it could take.
    """
    grid, images = grid or observation.patch_grid(), observation.images
    down = F.pad(images.diff(dim=2), (0, 0, 0, 1)) ** 2
    right = F.pad(images.diff(dim=3), (0, 1, 0, 0)) ** 2
    values = torch.from_numpy(patch_means((down + right).sum(dim=1).detach().double().cpu().numpy(), grid))
    return PatchMap(values, grid, "This map shows where the image has edges.", layers=("none",))
