"""The graph of gradients of a recorded pass, and derivatives along it.

Axes:  b images   c channels   y x pixels   k classes
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitral.base.errors import ModelError, UsageError, WatchError
from vitral.base.output import Output
from vitral.recording.forward import forward


@dataclass(frozen=True)
class Graph:
    """The graph of a recorded pass, from its leaf, the images, to the answer."""

    images: Float[Tensor, "b c y x"]
    answer: Tensor

    def differentiate(
        self, classes: Int[Tensor, " b"], tensors: Sequence[Tensor], model_name: str
    ) -> list[Tensor | None]:
        """∂y/∂tensor for tensors of the pass, y being the logit of each image's class; None where no gradient reaches.

        Raises `UsageError` if the model, which messages call `model_name`, was changed since, `WatchError` if it cannot
        be differentiated.
        """
        if not self.answer.requires_grad:
            return [None] * len(tensors)
        with recorded_gradients():
            score = self.answer.gather(1, classes.clone()[:, None]).sum()
            # The graph is kept: other methods, and other targets, differentiate it again.
            try:
                return list(torch.autograd.grad(score, list(tensors), retain_graph=True, allow_unused=True))
            except RuntimeError as error:
                if "modified by an inplace operation" not in str(error):
                    raise WatchError(
                        f"{model_name} has no gradients, since its backward pass failed: {error} occlusion and "
                        "attention need none."
                    ) from error
                raise UsageError(
                    f"{model_name} was changed after it was observed, or overwrites in place a tensor that its "
                    "gradients need. If its weights were changed, observe it again."
                ) from error


@contextmanager
def recorded_gradients() -> Iterator[None]:
    """Inside it gradients are recorded, also where the caller turned that off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def recorded_pass(model: nn.Module, images: Tensor, gradients: bool) -> tuple[Output, Graph | None]:
    """One forward pass; its output without the graph, and the graph if gradients are needed."""
    if not gradients:
        with torch.no_grad():
            output = forward(model, images)
        return replace(output, tensor=output.tensor.detach()), None  # an output may be a parameter
    if not images.is_floating_point():
        raise UsageError(f"{images.dtype} images have no gradients. Convert them: images.float().")
    with recorded_gradients():
        leaf = images.detach().clone().requires_grad_()
        output = forward(model, leaf)
    return replace(output, tensor=output.tensor.detach()), Graph(leaf, output.tensor)


@contextmanager
def without_vmap(model: nn.Module) -> Iterator[None]:
    """Raise `WatchError` for what `torch.func.vmap` does not allow: what is kept of a pass leaves the function that it
    runs, and probes draw random images."""
    try:
        yield
    except (RuntimeError, ModelError) as error:
        if not re.search("vmap|functorch", str(error)):
            raise
        raise WatchError(
            f"{type(model).__name__} cannot be explained under torch.func.vmap, because nothing that is recorded "
            "inside it can leave it. Call the method on the model itself, with a batch of images. If the model calls "
            "vmap, vitral.watch still shows its attention."
        ) from error
