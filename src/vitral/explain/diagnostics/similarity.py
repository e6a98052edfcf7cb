"""`similarity`: how similar one patch's features are to all others' (Caron et al. 2021, "Emerging Properties", §4.2,
and Siméoni et al. 2021, "LOST", §3, which find objects by it).

Axes:  b images   gy gx rows, columns of patches
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.explain.observation import observe
from vitral.recording.indices import check_patch, select


@torch.no_grad()
def similarity(
    model: nn.Module, images: Float[Tensor, "b c y x"], patch: tuple[int, int], place: int = -1
) -> Float[np.ndarray, "b gy gx"]:
    """The cosine of each patch's features with those of the patch at (row, column); in -1 to 1.

    `place` counts in the stream: 0 enters the first block, -1 leaves the last. Raises `UsageError` for a patch or place
    that does not exist, `WatchError` if there are no maps.
    """
    maps = observe(model, images, ["feature maps"], check="rows").feature_maps
    features = maps[select([place], len(maps), "place")[0]]
    row, column = check_patch(patch, features.grid)
    unit = F.normalize(features.patches.float(), dim=1)
    return torch.einsum("bdyx,bd->byx", unit, unit[:, :, row, column]).cpu().numpy()
