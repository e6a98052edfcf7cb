"""`integrated_gradients`: the gradient along the way from a baseline to the image (Sundararajan et al. 2017, §3).

    Σ over a patch of (x - x₀) · ∫₀¹ ∂y/∂x (x₀ + α (x - x₀)) dα

Complete: the values add up to y(x) - y(x₀), except for what the sum over `steps` midpoints misses; the caption says how
much that was.

Axes:  b images   c channels   y x pixels
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.explain.feature_maps import grid_of
from vitral.explain.maps import Maps
from vitral.explain.methods.input_gradient import per_patch, slope
from vitral.explain.one_map import one_map
from vitral.explain.target import Target, classes_to_explain
from vitral.recording.forward import logits_of
from vitral.recording.roles import Grid


def integrated_gradients(
    model: nn.Module,
    images: Float[Tensor, "b c y x"],
    target: Target = None,
    *,
    baseline: float = 0.0,
    steps: int = 32,
    grid: Grid | None = None,
) -> Maps:
    """What each patch adds to a class's logit between a baseline and the image; signed, in logits.

    `target` is by default the model's answer, `baseline` a value of every channel as the model takes it (0 is the mean
    colour), `grid` the model's own. Raises `UsageError` for a class that does not exist or fewer than one step,
    `ShapeError` for a grid that does not divide the image.
    """
    if steps < 1:
        raise UsageError(f"steps={steps}: integrated gradients need at least one step.")
    with evaluating(model):
        grid = grid_of(model, images, grid)
        with torch.no_grad():
            logits = logits_of(model, images)
            classes = classes_to_explain(logits, target)
            empty = logits_of(model, torch.full_like(images, baseline))
        way = images - baseline
        slopes = [slope(model, baseline + way * ((step + 0.5) / steps), classes) for step in range(steps)]
        values = way * torch.stack(slopes).mean(dim=0)
    gained = (logits - empty).gather(1, classes[:, None])[:, 0]
    missed = (values.sum(dim=(1, 2, 3)) - gained).abs().max()
    return one_map(
        "integrated_gradients",
        f"Shown is what each patch adds to the class's logit on the way from a baseline of {baseline:g}; "
        f"in {steps} steps the sum misses the logit's change by at most {missed:.2g}.",
        model,
        images,
        per_patch(values, grid),
        grid,
        layers="pixels",
        unit="logits",
        sign="signed",
        targets=classes.tolist(),
    )
