"""A linear probe: what a line between classes reads from a trained body, and a head to go on from.

A head that is fitted before the body moves does not spoil by its first, random gradients what the body knows (Kumar et
al. 2022, "Fine-Tuning Can Distort Pretrained Features and Underperform Out-of-Distribution", §3).

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
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)  # of which the one that is best on the validation images is taken

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Probe:
    """How good a linear head is on the validation images, and the penalty it was fitted with."""

    accuracy: float
    penalty: float


@torch.no_grad()
def probed(model: Classifier, data: Dataset, report: Report = lambda done, total: None) -> Probe:
    """Fit multinomial logistic regression on what the model's linear head reads, and put it there.

    The body is run once on each image, which is not augmented; `report` is told how many are done, of how many. Raises
    `ConfigError` for a head that is not one linear map.
    """
    head = getattr(model, "head", None)
    if not isinstance(head, nn.Linear):
        raise ConfigError(f"A linear probe needs a linear head, and this model's is a {type(head).__name__}.")
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
    """What goes into the head, for each image, in double precision."""
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
