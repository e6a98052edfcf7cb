"""`probe`: how well a linear classifier reads the class from CLS after each block (Alain & Bengio 2017, "Understanding
Intermediate Layers Using Linear Classifier Probes", §3).

Axes:  n images   l places in the stream   d width
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.logistic import fit_logistic
from vitral.explain.observation import observe

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
            f"Each image needs one label: found {len(images)} images with {len(labels)} labels, and "
            f"{len(test_images)} test images with {len(test_labels)}."
        )
    learned, tested = features(model, images), features(model, test_images)
    given = [answers(x, torch.as_tensor(labels), other) for x, other in zip(learned, tested)]
    return np.array([float((answer == torch.as_tensor(test_labels)).double().mean()) for answer in given])


@torch.no_grad()
def features(model: nn.Module, images: Tensor) -> list[Float[Tensor, "n d"]]:
    parts: list[list[Tensor]] = []
    for batch in images.split(BATCH):
        observation = observe(model, batch, ["feature maps"], check="rows")
        roles = observation.layers[-1].tokens if observation.recording is not None else None
        cls = roles.other_tokens[0] if roles is not None and roles.has_cls else None
        parts.append(
            [
                features.patches.mean(dim=(2, 3))
                if cls is None or features.tensor.ndim != 3 or features.tensor.shape[1] == len(features.patch_tokens)
                else features.tensor[:, cls]
                for features in observation.feature_maps
            ]
        )
    return [torch.cat(place).float().cpu() for place in zip(*parts)]


def answers(x: Float[Tensor, "n d"], y: Int[Tensor, " n"], other: Float[Tensor, "m d"]) -> Int[Tensor, " m"]:
    """The classes that a regression fitted on x gives to others."""
    weight, bias = fit_logistic(x, y, int(y.max()) + 1, PENALTY)
    return (other @ weight.T + bias).argmax(dim=1)
