"""`random`: a map of uniform noise, the floor of every score (as in Adebayo et al. 2018, §4).

Axes:  b images   gy gx rows, columns of patches
"""

import hashlib

import numpy as np
import torch

from vitral.explain.method import PatchMap, method
from vitral.explain.observation import Observation, Target
from vitral.recording.indices import Grid


@method()
def random(observation: Observation, target: Target = None, *, grid: Grid | None = None, seed: int = 0) -> PatchMap:
    """Uniform noise from the image and the seed, so that an image has the same map in any batch.

    Raises `WatchError` if no `grid` is given and the model makes no maps whose grid it could take.
    """
    grid = grid or observation.patch_grid()
    noise = []
    for image in observation.images.detach().cpu().float().numpy():
        digest = hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()
        noise.append(np.random.default_rng([seed, *digest[:8]]).random(grid, dtype=np.float32))
    return PatchMap(torch.from_numpy(np.stack(noise)), grid, "This map shows random noise.", layers=("none",))
