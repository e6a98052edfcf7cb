"""`occlusion`: how much of a class's logit is gone when a patch is covered (Zeiler & Fergus 2014, §4.2).

    y(x) - y(x with the patch at the baseline)

It asks the model itself, one patch at a time; what two patches hold in common it does not see.

Axes:  b images   c channels   y x pixels   gy gx rows, columns of patches
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.explain.feature_maps import grid_of
from vitral.explain.maps import Maps
from vitral.explain.one_map import one_map
from vitral.explain.target import Target, classes_to_explain, score_of
from vitral.recording.forward import logits_of
from vitral.recording.roles import Grid

BATCH = 256  # images a forward pass


@torch.no_grad()
def occlusion(
    model: nn.Module,
    images: Float[Tensor, "b c y x"],
    target: Target = None,
    *,
    baseline: float = 0.0,
    grid: Grid | None = None,
) -> Maps:
    """What each patch holds of a class's logit; signed, in logits. For any model of images; a forward pass a patch.

    `target` is by default the model's answer, `baseline` a value of every channel as the model takes it (0 is the mean
    colour), `grid` the model's own. Raises `UsageError` for a class that does not exist, `ShapeError` for a grid that
    does not divide the image.
    """
    with evaluating(model):
        grid = grid_of(model, images, grid)
        logits = logits_of(model, images)
        classes = classes_to_explain(logits, target)
        places = rearrange(torch.eye(grid[0] * grid[1], device=images.device), "g (gy gx) -> g 1 gy gx", gy=grid[0])
        covers = places.bool().repeat_interleave(images.shape[2] // grid[0], 2)
        covers = covers.repeat_interleave(images.shape[3] // grid[1], 3)
        drops = []
        for image, label in zip(images, classes.tolist()):
            covered = (torch.where(some, baseline, image) for some in covers.split(BATCH))
            drops.append(torch.cat([score_of(logits_of(model, batch), label) for batch in covered]))
    values = logits.gather(1, classes[:, None]) - torch.stack(drops)
    return one_map(
        "occlusion",
        f"Shown is how much of the class's logit is gone when a patch is set to {baseline:g}.",
        model,
        images,
        values,
        grid,
        layers="pixels",
        unit="logits",
        sign="signed",
        targets=classes.tolist(),
    )
