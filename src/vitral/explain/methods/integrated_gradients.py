"""`integrated_gradients`: the gradient along the way from a baseline to the image (Sundararajan et al. 2017, §3).

    Σ over a patch of (x - x₀) · ∫₀¹ ∂y/∂x (x₀ + α (x - x₀)) dα

Complete: the values add up to y(x) - y(x₀), except for what the sum over `steps` midpoints misses; the caption states
how much that was.

Axes:  b images   c channels   y x pixels
"""

import torch

from vitral.base.errors import UsageError
from vitral.explain.method import PatchMap, method
from vitral.explain.methods.input_gradient import sum_per_patch
from vitral.explain.observation import Observation, Target, observe
from vitral.recording.indices import Grid


@method()
def integrated_gradients(
    observation: Observation,
    target: Target = None,
    *,
    baseline: float = 0.0,
    steps: int = 32,
    grid: Grid | None = None,
) -> PatchMap:
    """What each patch adds to a class's logit between a baseline and the image; signed, in logits.

    `target` is by default the model's prediction, `baseline` a value of every channel as the model takes it (0 is the
    mean colour), `grid` the model's own. Raises `UsageError` for a class that does not exist or fewer than one step,
    `ShapeError` for a grid that does not divide the image.
    """
    if steps < 1:
        raise UsageError(f"steps={steps}: integrated gradients need at least one step.")
    grid, images = observation.patch_grid(grid), observation.images
    classes, path = observation.classes(target), images - baseline
    gradients = torch.zeros_like(images)
    for step in range(steps):
        midpoint = baseline + path * ((step + 0.5) / steps)
        gradients += observe(observation.model, midpoint, ["gradients"]).image_gradient(classes)
    values = path * gradients / steps
    empty = observation.run(torch.full_like(images, baseline))
    change = (observation.logits - empty).gather(1, classes[:, None])[:, 0]
    missed = (values.sum(dim=(1, 2, 3)) - change).abs().max()
    return PatchMap(
        sum_per_patch(values, grid),
        grid,
        f"This map shows what each patch adds to {observation.score} on the way from a baseline of {baseline:g}; "
        f"with {steps} steps, the sum over patches differs from the total change by at most {missed:.2g}.",
        unit=observation.unit,
        sign="signed",
        layers=("pixels",),
        classes=classes,
        why_zero=f"No patch adds to {observation.score}: its gradient, or the image's difference from the baseline, is "
        "zero.",
    )
