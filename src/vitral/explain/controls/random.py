"""`random`: a map of uniform noise, the floor of every score (as in Adebayo et al. 2018, §4).

Axes:  b images   gy gx rows, columns of patches
"""

import hashlib

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.explain.feature_maps import grid_of
from vitral.explain.maps import Maps
from vitral.explain.one_map import one_map
from vitral.explain.target import Target
from vitral.recording.roles import Grid


def random(
    model: nn.Module,
    images: Float[Tensor, "b c y x"],
    target: Target = None,
    *,
    grid: Grid | None = None,
    seed: int = 0,
) -> Maps:
    """Uniform noise, drawn from the image and the seed, so that an image has the same map in any batch.

    Raises `WatchError` if no `grid` is given and the model makes no maps whose grid it could take.
    """
    with evaluating(model):
        grid = grid or grid_of(model, images)
    drawn = []
    for image in images.detach().cpu().float().numpy():
        digest = hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()
        drawn.append(np.random.default_rng([seed, *digest[:8]]).random(grid, dtype=np.float32))
    values = torch.from_numpy(np.stack(drawn))
    return one_map("random", "Shown is noise, which knows nothing.", model, images, values, grid, layers="none")
