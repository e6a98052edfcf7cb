"""`grad_cam`: the features of the last place that a gradient reaches, weighted by their mean gradient (Selvaraju et al.
2017, §3).

    α_d = mean over places of ∂y/∂F_d        map = (Σ_d α_d F_d)⁺

In a CNN that place is its last feature map. In a ViT whose answer is read from CLS no gradient reaches the patches that
leave the last block, so it is what enters it; with a mean pool it is what leaves it.

Axes:  b images   d width   gy gx rows, columns
"""

from vitral.base.errors import WatchError
from vitral.explain.method import PatchMap, method
from vitral.explain.observation import Observation, Target


@method(needs=["feature maps", "gradients"])
def grad_cam(observation: Observation, target: Target = None) -> PatchMap:
    """What speaks for a class's logit in the last features, as multiples of uniform. For ViT, Swin and CNN.

    `target` is by default the model's prediction. Raises `UsageError` for a class that does not exist, `WatchError` if
    the model makes no feature maps or no gradient reaches them.
    """
    classes = observation.classes(target)
    found = zip(observation.feature_maps, observation.map_gradients(target))
    for features, gradient in reversed(list(found)):
        if gradient is None:
            continue
        slopes = features.as_map(gradient)
        if slopes.abs().amax() > 0:
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
