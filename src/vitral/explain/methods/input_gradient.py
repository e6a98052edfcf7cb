"""`input_gradient`: input x gradient (Shrikumar et al. 2016, "Not Just a Black Box", §3; Simonyan et al. 2014, §3).

    Σ over a patch's pixels and channels of (x - x₀) · ∂y/∂x

x₀ is a baseline, by default zero as the model takes it: the mean colour. To first order it is how much of the logit
would be gone if the patch were the baseline.

Axes:  b images   c channels   y x pixels   gy gx rows, columns of patches
"""

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.explain.feature_maps import grid_of
from vitral.explain.gradients import differentiable, recording
from vitral.explain.maps import Maps
from vitral.explain.one_map import one_map
from vitral.explain.target import Target, classes_to_explain
from vitral.recording.forward import logits_of
from vitral.recording.roles import Grid


def input_gradient(
    model: nn.Module,
    images: Float[Tensor, "b c y x"],
    target: Target = None,
    *,
    baseline: float = 0.0,
    grid: Grid | None = None,
) -> Maps:
    """What each patch adds to a class's logit, to first order; signed, in logits. For any model of images.

    `target` is by default the model's answer, `grid` the model's own. Raises `UsageError` for a class that does not
    exist, `ShapeError` for a grid that does not divide the image.
    """
    with evaluating(model):
        grid = grid_of(model, images, grid)
        with torch.no_grad():
            classes = classes_to_explain(logits_of(model, images), target)
        values = (images - baseline) * slope(model, images, classes)
    return one_map(
        "input_gradient",
        f"Shown is what each patch adds to the class's logit, to first order, against a baseline of {baseline:g}.",
        model,
        images,
        per_patch(values, grid),
        grid,
        layers="pixels",
        unit="logits",
        sign="signed",
        targets=classes.tolist(),
    )


def slope(model: nn.Module, images: Float[Tensor, "b c y x"], classes: Tensor) -> Float[Tensor, "b c y x"]:
    """∂y/∂x of each image's class."""
    with recording():
        images = differentiable(images)
        score = logits_of(model, images).gather(1, classes.clone()[:, None]).sum()
        return torch.autograd.grad(score, images)[0]


def per_patch(values: Float[Tensor, "b c y x"], grid: Grid) -> Float[Tensor, "b gy gx"]:
    return reduce(values, "b c (gy y) (gx x) -> b gy gx", "sum", gy=grid[0], gx=grid[1])
