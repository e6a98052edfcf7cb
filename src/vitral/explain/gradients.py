"""Gradients of a class's logit with respect to what a fused kernel never forms.

For Z = A v, ∂y/∂A = (∂y/∂Z) vᵀ: the gradient of what the call of attention returned is all that is needed, and the rows
of A and of its gradient are formed a chunk at a time.

Axes:  b images   h heads   r rows   m key tokens
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import WatchError
from vitral.explain.target import Target, classes_to_explain
from vitral.recording.forward import check_unchanged, logits_of
from vitral.recording.intercept import TOLERANCE, watch
from vitral.recording.layers import Layer, Seen


def differentiable(images: Tensor) -> Tensor:
    """A copy of the images that records gradients, also of images made in inference mode."""
    return images.detach().clone().requires_grad_()


@contextmanager
def recording() -> Iterator[None]:
    """Gradients are recorded inside the block, also where the caller turned that off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def watched_with_gradients(
    model: nn.Module, images: Float[Tensor, "b c y x"], target: Target
) -> tuple[Seen, dict[int, Tensor], list[int]]:
    """What was seen, ∂y/∂(what each layer's attention returned) by the layer's number, and each image's class.

    Raises `WatchError` if no gradient reaches any layer.
    """
    with torch.no_grad():
        plain = logits_of(model, images)
    with recording():
        with watch(model, rows="all") as seen:
            logits = logits_of(model, differentiable(images))
        check_unchanged(logits, plain, TOLERANCE[plain.dtype])
        classes = classes_to_explain(plain, target)
        layers = {number: layer.call.out for number, layer in enumerate(seen.layers) if layer.call is not None}
        if not layers:
            raise WatchError(
                "No gradient is recorded where the model attends (it runs under no_grad, or detaches its tokens), "
                "so a method that needs gradients has nothing to show. Try attention or rollout."
            )
        score = logits.gather(1, classes.clone()[:, None]).sum()
        found = torch.autograd.grad(score, list(layers.values()), allow_unused=True)
    gradients = {number: gradient for number, gradient in zip(layers, found) if gradient is not None}
    if not gradients:
        raise WatchError("No gradient of the class reaches any layer's attention, so there is nothing to show.")
    return seen, gradients, classes.tolist()


def weights_and_gradients(
    layer: Layer, out_gradient: Tensor
) -> Iterator[tuple[slice, Float[Tensor, "b h r m"], Float[Tensor, "b h r m"]]]:
    """Rows of the attention and their gradients, a chunk of queries at a time."""
    assert layer.call is not None
    for queries, rows in layer.chunks():
        yield queries, rows.detach(), layer.call.weight_gradients(out_gradient, queries)
