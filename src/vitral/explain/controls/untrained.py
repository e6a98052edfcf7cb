"""`untrained`: the last attention of the same model with nothing learned (the sanity check of Adebayo et al. 2018, §3).

Of a model without attention, Grad-CAM.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import WatchError
from vitral.explain.maps import Maps
from vitral.explain.methods.attention import attention
from vitral.explain.methods.grad_cam import grad_cam
from vitral.explain.one_map import one_map
from vitral.explain.target import Target
from vitral.explain.untrained_twin import untrained_twin


def untrained(model: nn.Module, images: Float[Tensor, "b c y x"], target: Target = None, *, seed: int = 0) -> Maps:
    """What the untrained twin attends to in its last layer, heads averaged. Raises `WatchError` if nothing is seen."""
    twin = untrained_twin(model, seed)
    try:
        maps = attention(twin, images, layers=[-1])
    except WatchError:
        maps = grad_cam(twin, images, target)
    return one_map(
        "untrained",
        "Shown is the same model before it learned anything.",
        model,
        images,
        torch.from_numpy(maps.merged),
        maps.grid,
        layers=maps.layers[0],
        residual=maps.residual,
    )
