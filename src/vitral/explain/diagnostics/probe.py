"""`probe`: how well a linear classifier reads the class from CLS after each block (Alain & Bengio 2017, "Understanding
Intermediate Layers Using Linear Classifier Probes", §3).

Axes:  n images   l places in the stream   d width
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.explain.features import patches_of, tokens_and_maps

BATCH = 64
PENALTY = 1e-3  # of the weights' squares


def probe(
    model: nn.Module,
    images: Float[Tensor, "n c y x"],
    labels: Sequence[int],
    test_images: Float[Tensor, "m c y x"],
    test_labels: Sequence[int],
) -> Float[np.ndarray, " l"]:
    """Test accuracy of multinomial logistic regression on standardised features, at each place in the stream.

    The features are CLS's where there is one, else the mean of the patches. Raises `UsageError` if images and labels
    are not as many, `WatchError` if the model makes no maps.
    """
    if len(images) != len(labels) or len(test_images) != len(test_labels):
        raise UsageError(
            f"{len(images)} images have {len(labels)} labels, and {len(test_images)} test images {len(test_labels)}."
        )
    learned, tested = features(model, images), features(model, test_images)
    answers = [fitted(x, torch.as_tensor(labels), other) for x, other in zip(learned, tested)]
    return np.array([float((answer == torch.as_tensor(test_labels)).double().mean()) for answer in answers])


@torch.no_grad()
def features(model: nn.Module, images: Tensor) -> list[Float[Tensor, "n d"]]:
    parts: list[list[Tensor]] = []
    with evaluating(model):
        for batch in images.split(BATCH):
            _, places, seen = tokens_and_maps(model, batch)
            parts.append(
                [
                    tokens[:, 0]
                    if seen is not None and prefix and seen.layers[-1].tokens.has_cls
                    else patches_of(tokens, grid, prefix, seen).mean(dim=(2, 3))
                    for _, tokens, grid, prefix in places
                ]
            )
    return [torch.cat(place).float().cpu() for place in zip(*parts)]


def fitted(x: Float[Tensor, "n d"], y: Int[Tensor, " n"], other: Float[Tensor, "m d"]) -> Int[Tensor, " m"]:
    """The classes that a regression fitted on x gives to others."""
    mean, std = x.mean(dim=0), x.std(dim=0) + 1e-6
    weight = torch.zeros(x.shape[1] + 1, int(y.max()) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def scores(given: Tensor) -> Tensor:
        return (given - mean) / std @ weight[1:] + weight[0]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(scores(x), y) + PENALTY * weight[1:].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return scores(other).detach().argmax(dim=1)
