"""`input_gradient`: input x gradient (Shrikumar et al. 2016, "Not Just a Black Box", §3; Simonyan et al. 2014, §3).

    Σ over a patch's pixels and channels of (x - x₀) · ∂y/∂x

x₀ is a baseline, by default zero as the model takes it: the mean colour. To first order it is how much the logit would
fall if the patch were the baseline.

Axes:  b images   c channels   y x pixels   gy gx rows, columns of patches
"""

from einops import reduce
from jaxtyping import Float
from torch import Tensor

from vitral.explain.method import PatchMap, method
from vitral.explain.observation import Observation, Target
from vitral.recording.indices import Grid


@method(needs=["gradients"])
def input_gradient(
    observation: Observation, target: Target = None, *, baseline: float = 0.0, grid: Grid | None = None
) -> PatchMap:
    """What each patch adds to a class's logit, to first order; signed, in logits. For any model of images.

    `target` is by default the model's prediction, `grid` the model's own. Raises `UsageError` for a class that does not
    exist, `ShapeError` for a grid that does not divide the image.
    """
    grid = observation.patch_grid(grid)
    values = (observation.images - baseline) * observation.image_gradient(target)
    return PatchMap(
        sum_per_patch(values, grid),
        grid,
        f"This map shows what each patch adds to {observation.score}, to first order, over a baseline of {baseline:g}.",
        unit=observation.unit,
        sign="signed",
        layers=("pixels",),
        classes=observation.classes(target),
        why_zero=f"No patch adds to {observation.score}: its gradient, or the image's difference from the baseline, is "
        "zero.",
    )


def sum_per_patch(values: Float[Tensor, "b c y x"], grid: Grid) -> Float[Tensor, "b gy gx"]:
    """The sum over the pixels and channels of each patch."""
    return reduce(values, "b c (gy y) (gx x) -> b gy gx", "sum", gy=grid[0], gx=grid[1])
