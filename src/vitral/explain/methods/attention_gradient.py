"""`attention_gradient`: attention x gradient in the last layer that a gradient reaches (Chefer et al. 2021, "Generic
Attention-model Explainability", eq. 5, one layer alone).

    mean over heads of (∂y/∂A ∘ A)⁺ [CLS, patches]

Where the answer is read from more tokens than CLS, their rows are added up; attention within windows is put where the
windows stand.

Axes:  b images   h heads   r rows   m key tokens
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.explain.gradients import watched_with_gradients, weights_and_gradients
from vitral.explain.maps import Maps
from vitral.explain.one_map import one_map
from vitral.explain.readout import readers_of, tokens_read
from vitral.explain.target import Target
from vitral.recording.layers import total


def attention_gradient(model: nn.Module, images: Float[Tensor, "b c y x"], target: Target = None) -> Maps:
    """What speaks for a class in the last layer's attention, as multiples of uniform.

    `target` is by default the model's answer. Raises `UsageError` for a class that does not exist, `WatchError` if
    nothing is seen or verified, or no gradient reaches the attention.
    """
    with evaluating(model):
        readers = tokens_read(model, images)
        seen, gradients, classes = watched_with_gradients(model, images, target)
    last = max(gradients)
    layer = seen.layers[last]
    some = torch.zeros(layer.num_queries, device=images.device)
    some[list(readers_of(layer, seen, readers)) or slice(None)] = 1
    row = total(
        ((weights * gradient).clamp_min(0).mean(dim=1).mT @ some[queries].to(weights.dtype))
        for queries, weights, gradient in weights_and_gradients(layer, gradients[last])
    )
    if layer.windows is not None:
        row = layer.windows.spread(row[:, None])[:, 0]
    prefix = len(layer.tokens.prefix)
    return one_map(
        "attention_gradient",
        f"Shown is what speaks for the class in the attention of {layer.name}, by its gradient.",
        model,
        images,
        row[:, prefix:],
        layer.tokens.grid,
        layers=layer.name,
        prefix_mass=row[:, :prefix].sum(dim=1) / row.sum(dim=1).clamp_min(1e-30),
        residual=seen.residual,
        targets=classes,
    )
