"""`grad_cam`: the features of the last place that a gradient reaches, weighted by their mean gradient (Selvaraju et al.
2017, §3).

    α_d = mean over places of ∂y/∂F_d        map = (Σ_d α_d F_d)⁺

In a CNN that place is its last feature map. In a ViT whose answer is read from CLS no gradient reaches the patches that
leave the last block, so it is what enters it; with a mean pool it is what leaves it.

Axes:  b images   d width   gy gx rows, columns
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import UsageError, WatchError
from vitral.explain.method import PatchMap, method
from vitral.explain.observation import Observation, Target


@method(needs=["feature maps", "gradients"])
def grad_cam(observation: Observation, target: Target = None) -> PatchMap:
    """What speaks for a class's logit in the last features, as multiples of uniform. For ViT, Swin and CNN.

    `target` is by default the model's prediction. Raises `UsageError` for a class that does not exist, `WatchError` if
    the model makes no feature maps or no gradient reaches them.
    """
    classes = observation.classes(target)
    found = list(zip(observation.feature_maps, observation.map_gradients(target)))
    for place, (features, gradient) in reversed(list(enumerate(found))):
        if gradient is None:
            continue
        slopes = features.as_map(gradient)
        if slopes.abs().amax() > 0:
            check_one_place(slopes, [gradient for _, gradient in found[:place]], features.where)
            weighted = slopes.mean(dim=(2, 3), keepdim=True) * features.patches.detach()
            return PatchMap(
                weighted.sum(dim=1).clamp_min(0),
                features.grid,
                f"This map shows what {observation.supports} in the features {features.where}.",
                layers=(features.where,),
                residual=observation.residual,
                classes=classes,
                why_zero="The weighted features are zero or evidence against the class at every place.",
            )
    raise WatchError(
        "No gradient of the class score reaches any feature map, so there is nothing to show. Try occlusion, which "
        "needs no gradients."
    )


def check_one_place(slopes: Float[Tensor, "b d gy gx"], before: Sequence[Tensor | None], where: str) -> None:
    """Raise `UsageError` if the gradient of some images does not reach the place that is shown, but one before it."""
    behind = ~slopes.flatten(1).any(dim=1)
    earlier = [each.flatten(1).any(dim=1) for each in before if each is not None and len(each) == len(behind)]
    late = [image for image in behind.nonzero()[:, 0].tolist() if any(bool(reached[image]) for reached in earlier)]
    if late:
        raise UsageError(
            f"The gradient of image {late[0]}'s class does not reach the features {where}, but earlier ones: the model "
            "answers these images at different depths (early exits). Explain one image at a time."
        )
