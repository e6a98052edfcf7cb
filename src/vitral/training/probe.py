"""A linear probe: the accuracy of a linear head on frozen features, and that head as the start of fine-tuning.

A new head gives random gradients, which would distort the trained features; a head that is fitted first does not (Kumar
et al. 2022, "Fine-Tuning Can Distort Pretrained Features and Underperform Out-of-Distribution", §3).

Axes:  n images   d width
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import ConfigError
from vitral.base.logistic import fit_logistic
from vitral.base.modes import evaluating
from vitral.data.dataset import Dataset, Split
from vitral.data.preprocess import normalise
from vitral.store.classifier import Classifier

AT_ONCE = 64
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)  # the validation images choose among them

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Probe:
    """Accuracy of the linear head on the validation images, and the L2 penalty that it was fitted with."""

    accuracy: float
    penalty: float


@torch.no_grad()
def fit_head(model: Classifier, data: Dataset, report: Report = lambda done, total: None) -> Probe:
    """Fit multinomial logistic regression on the inputs of the model's linear head, and make it that head.

    The model runs once on each image, without augmentation; `report(done, total)` counts the images. Raises
    `ConfigError` if the head is not one linear layer.
    """
    head = getattr(model, "head", None)
    if not isinstance(head, nn.Linear):
        raise ConfigError(
            f"A linear probe needs a model whose `head` is an nn.Linear; this model's is a {type(head).__name__}."
        )
    count, total = len(data.train), len(data.train) + len(data.val)
    x = features(model, head, data.train, lambda done: report(done, total))
    held_out = features(model, head, data.val, lambda done: report(count + done, total))
    labels, right = torch.from_numpy(data.train.labels).long(), torch.from_numpy(data.val.labels).long()
    found = []
    for penalty in PENALTIES:
        weight, bias = fit_logistic(x, labels, len(data.classes), penalty)
        accuracy = float(((held_out @ weight.T + bias).argmax(dim=1) == right).double().mean())
        found.append((Probe(accuracy, penalty), weight, bias))
    best, weight, bias = max(found, key=lambda each: each[0].accuracy)
    head.weight.copy_(weight)
    head.bias.copy_(bias)
    return best


def features(model: Classifier, head: nn.Linear, split: Split, report: Callable[[int], None]) -> Float[Tensor, "n d"]:
    """The inputs of the head for each image, in double precision."""
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].double().cpu()))
    pixels = torch.from_numpy(split.pixels)
    try:
        with evaluating(model):
            for start in range(0, len(split), AT_ONCE):
                model(normalise(pixels[start : start + AT_ONCE].to(head.weight.device), model.preprocessing))
                report(min(start + AT_ONCE, len(split)))
    finally:
        handle.remove()
    return torch.cat(seen)
