"""`grad_cam`: the features of the last place that a gradient reaches, weighted by their mean gradient (Selvaraju et al.
2017, §3).

    α_d = mean over places of ∂y/∂F_d        map = (Σ_d α_d F_d)⁺

In a CNN that place is its last feature map. In a ViT whose answer is read from CLS no gradient reaches the patches that
leave the last block, so it is what enters it; with a mean pool it is what leaves it.

Axes:  b images   d width   gy gx rows, columns
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import WatchError
from vitral.base.modes import evaluating
from vitral.explain.feature_maps import patches_of, tokens_and_maps
from vitral.explain.gradients import differentiable, recording
from vitral.explain.maps import Maps
from vitral.explain.one_map import one_map
from vitral.explain.target import Target, classes_to_explain
from vitral.recording.forward import logits_of


def grad_cam(model: nn.Module, images: Float[Tensor, "b c y x"], target: Target = None) -> Maps:
    """What speaks for a class's logit in the last features, as multiples of uniform. For ViT, Swin and CNN.

    `target` is by default the model's answer. Raises `UsageError` for a class that does not exist, `WatchError` if the
    model makes no maps or no gradient reaches them.
    """
    with evaluating(model):
        with torch.no_grad():
            classes = classes_to_explain(logits_of(model, images), target)
        with recording():
            logits, places, seen = tokens_and_maps(model, differentiable(images))
            score = logits.gather(1, classes.clone()[:, None]).sum()
            reached = [place for place in places if place[1].requires_grad]
            gradients = (
                torch.autograd.grad(score, [place[1] for place in reached], allow_unused=True) if reached else ()
            )
    for (name, tokens, grid, prefix), gradient in reversed(list(zip(reached, gradients))):
        if gradient is None:
            continue
        slopes = patches_of(gradient, grid, prefix, seen)
        if slopes.abs().amax() > 0:
            features = patches_of(tokens.detach(), grid, prefix, seen)
            values = (slopes.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).clamp_min(0)
            return one_map(
                "grad_cam",
                f"Shown is what speaks for the class in the features {name}.",
                model,
                images,
                values,
                grid,
                layers=name,
                residual=seen.residual if seen else None,
                targets=classes.tolist(),
            )
    raise WatchError("No gradient of the class reaches any map of patches, so there is nothing to show.")
