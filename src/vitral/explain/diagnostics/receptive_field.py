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

from vitral.base.modes import evaluating
from vitral.explain.feature_maps import patches_of, tokens_and_maps
from vitral.explain.gradients import differentiable
from vitral.recording.indices import check_patch


def receptive_field(
    model: nn.Module, images: Float[Tensor, "b c y x"], patch: tuple[int, int] | None = None, seed: int = 0
) -> Float[np.ndarray, "l y x"]:
    """For each place in the stream, the share of each pixel in the gradient of one patch, by default the middle one.

    Each sums to 1. Raises `UsageError` for a patch that does not exist, `WatchError` if the model makes no maps.
    """
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model), torch.enable_grad():
        given = differentiable(images)
        _, places, seen = tokens_and_maps(model, given)
        found = []
        for _, tokens, grid, prefix in places:
            row, column = check_patch((grid[0] // 2, grid[1] // 2) if patch is None else patch, grid)
            features = patches_of(tokens, grid, prefix, seen)[:, :, row, column]
            signs = torch.randint(0, 2, features.shape, generator=generator).to(features) * 2 - 1
            slope = torch.autograd.grad((features * signs).sum(), given, retain_graph=True)[0]
            mass = slope.abs().sum(dim=1).mean(dim=0).double()
            found.append((mass / mass.sum()).cpu().numpy())
    return np.stack(found)
