"""`outliers`: the norm of each patch after each block, and which are far above the others (Darcet et al. 2024, "Vision
Transformers Need Registers", §2.1: in large models such patches hold something of the whole image, not their own).

Axes:  b images   l places in the stream   gy gx rows, columns of patches
"""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.explain.observation import observe
from vitral.explain.outlier_tokens import is_outlier


@torch.no_grad()
def outliers(
    model: nn.Module, images: Float[Tensor, "b c y x"]
) -> tuple[list[Float[np.ndarray, "b gy gx"]], Float[np.ndarray, " l"]]:
    """Norms of the patches where they enter each block and leave the last, and the share of outliers at each place.

    What an outlier is says `explain.outlier_tokens`. Raises `WatchError` if nothing is seen.
    """
    norms, shares = [], []
    for features in observe(model, images, ["feature maps"], check="rows").feature_maps:
        patches = features.patches
        norms.append(patches.norm(dim=1).float().cpu().numpy())
        shares.append(is_outlier(rearrange(patches, "b d gy gx -> b (gy gx) d")).float().mean())
    return norms, torch.stack(shares).cpu().numpy()
