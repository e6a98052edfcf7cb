"""A linear probe: how good a linear head on frozen features is, and that head as the start of fine-tuning.

A new head gives random gradients, which would distort the trained features; a head that is fitted first does not (Kumar
et al. 2022, "Fine-Tuning Can Distort Pretrained Features and Underperform Out-of-Distribution", §3).

Axes:  n images   d width
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.answer import Figures, Loss, scored_answer_of
from vitral.base.errors import ConfigError
from vitral.base.logistic import fit_linear
from vitral.base.modes import evaluating
from vitral.data.dataset import Dataset, Split
from vitral.data.preprocess import normalise
from vitral.store.classifier import Classifier
from vitral.store.numbers_head import linear_head, numbers_head_of

AT_ONCE = 64
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)  # the validation images choose among them

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Probe:
    """Figures of the linear head on the validation images, and the L2 penalty that it was fitted with."""

    figures: Figures
    penalty: float


@torch.no_grad()
def fit_head(
    model: Classifier, data: Dataset, report: Report = lambda done, total: None, balanced: bool = False
) -> Probe:
    """Fit a linear model with the task's loss on the inputs of the model's linear head, and make it that head.

    The model runs once on each image, without augmentation; `report(done, total)` counts the images. A `balanced` loss
    weighs classes by how rare they are. Raises `ConfigError` if the head is not one linear layer.
    """
    head, answer = linear_head(model), scored_answer_of(model)
    if head is None:
        raise ConfigError(
            "A linear probe needs a model whose `head` is an nn.Linear; this model's is a "
            f"{type(getattr(model, 'head', None)).__name__}."
        )
    # Numbers are fitted around 0, as the linear layer inside their head gives them, and compared in their own unit.
    scaled, loss_of = numbers_head_of(model), answer.loss(0.0, data.train.labels, balanced)
    in_unit: Callable[[Tensor], Tensor] = (lambda outputs: outputs) if scaled is None else scaled.scale
    count, total = len(data.train), len(data.train) + len(data.val)
    x = features(model, head, data.train, lambda done: report(done, total))
    held_out = features(model, head, data.val, lambda done: report(count + done, total))
    labels = torch.from_numpy(data.train.labels)
    found = []
    for penalty in PENALTIES:
        weight, bias = fit_linear(x, labels, len(data.classes), penalty, Loss(lambda out, y: loss_of(in_unit(out), y)))
        values = answer.values(in_unit(held_out @ weight.T + bias)).numpy()
        figures = answer.judge(values, data.val.labels, model.record.thresholds, "")
        found.append((Probe(figures, penalty), weight, bias))
    best, weight, bias = max(found, key=lambda each: each[0].figures.score[0])
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
