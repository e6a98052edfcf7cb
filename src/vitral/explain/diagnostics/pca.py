"""`pca`: the patches' features as colours, one for each of the three directions in which they differ most (Oquab et al.
2024, "DINOv2", figure 1).

Axes:  b images   gy gx rows, columns of patches
"""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.explain.observation import observe
from vitral.recording.indices import select


@torch.no_grad()
def pca(
    model: nn.Module, images: Float[Tensor, "b c y x"], place: int = -1
) -> tuple[Float[np.ndarray, "b gy gx 3"], Float[np.ndarray, " 3"]]:
    """Colours in 0..1, on one scale for all images, and the share of the variance along each of the three directions.

    `place` counts in the stream: 0 enters the first block, -1 leaves the last. A direction's sign is chosen so that its
    largest entry is positive. Raises `UsageError` for a place that does not exist, `WatchError` if there are no maps.
    """
    maps = observe(model, images, ["feature maps"], check="rows").feature_maps
    features = maps[select([place], len(maps), "place")[0]]
    patches, grid = rearrange(features.patches, "b d gy gx -> (b gy gx) d").double(), features.grid
    centred = patches - patches.mean(dim=0)
    _, lengths, directions = torch.linalg.svd(centred, full_matrices=False)
    three = directions[:3] * directions[:3].gather(1, directions[:3].abs().argmax(dim=1, keepdim=True)).sign()
    along = centred @ three.T
    low, high = along.min(dim=0).values, along.max(dim=0).values
    colours = rearrange(
        (along - low) / (high - low).clamp_min(1e-12), "(b gy gx) k -> b gy gx k", gy=grid[0], gx=grid[1]
    )
    return colours.cpu().numpy(), (lengths[:3] ** 2 / (lengths**2).sum()).cpu().numpy()
