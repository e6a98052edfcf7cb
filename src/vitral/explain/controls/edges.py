"""`edges`: where the image itself changes most (the edge detector that Adebayo et al. 2018, §5.1, hold maps against).

Axes:  b images   c channels   y x pixels   gy gx rows, columns of patches
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.explain.feature_maps import grid_of
from vitral.explain.maps import Maps
from vitral.explain.metric import averaged
from vitral.explain.one_map import one_map
from vitral.explain.target import Target
from vitral.recording.roles import Grid


def edges(
    model: nn.Module, images: Float[Tensor, "b c y x"], target: Target = None, *, grid: Grid | None = None
) -> Maps:
    """The squared differences of neighbouring pixels, added up over channels and averaged over each patch.

    Raises `WatchError` if no `grid` is given and the model makes no maps whose grid it could take.
    """
    with evaluating(model):
        grid = grid or grid_of(model, images)
    down = F.pad(images.diff(dim=2), (0, 0, 0, 1)) ** 2
    right = F.pad(images.diff(dim=3), (0, 1, 0, 0)) ** 2
    values = torch.from_numpy(averaged((down + right).sum(dim=1).detach().double().cpu().numpy(), grid))
    return one_map("edges", "Shown is where the image has edges.", model, images, values, grid, layers="none")
