"""`receptive_field`: which pixels a patch's features depend on (Luo et al. 2016, "Understanding the Effective Receptive
Field", §2; Raghu et al. 2021, figure 6).

    mean over images of |∂ (u · z) / ∂x|, z being a patch's features and u random signs, summed over channels

Random signs, since features that are merely added up may cancel.

Axes:  b images   c channels   y x pixels   l places in the stream
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.explain.graph import recorded_gradients
from vitral.explain.observation import observe
from vitral.recording.indices import check_patch


def receptive_field(
    model: nn.Module, images: Float[Tensor, "b c y x"], patch: tuple[int, int] | None = None, seed: int = 0
) -> Float[np.ndarray, "l y x"]:
    """For each place in the stream, the share of each pixel in the gradient of one patch, by default the middle one.

    Each sums to 1. Raises `UsageError` for a patch that does not exist, `WatchError` if the model makes no maps.
    """
    generator = torch.Generator().manual_seed(seed)
    observation = observe(model, images, ["feature maps", "gradients"], check="rows")
    assert observation.map_graph is not None
    found = []
    for features in observation.feature_maps:
        rows, columns = features.grid
        row, column = check_patch((rows // 2, columns // 2) if patch is None else patch, features.grid)
        with recorded_gradients():
            one = features.patches[:, :, row, column]
            signs = torch.randint(0, 2, one.shape, generator=generator).to(one) * 2 - 1
            gradient = torch.autograd.grad((one * signs).sum(), observation.map_graph.images, retain_graph=True)[0]
        mass = gradient.abs().sum(dim=1).mean(dim=0).double()
        found.append((mass / mass.sum()).cpu().numpy())
    return np.stack(found)
