"""A linear model on fixed features, such as multinomial logistic regression: the classifier of a linear probe.

Axes:  n examples   d width   k classes
"""

from typing import TYPE_CHECKING

from vitral.base.answer import Loss
from vitral.base.answers.one_class import one_class

if TYPE_CHECKING:
    from torch import Tensor

MAX_STEPS = 100


def fit_logistic(x: "Tensor", labels: "Tensor", num_classes: int, penalty: float) -> tuple["Tensor", "Tensor"]:
    """Weight (k, d) and bias (k) of multinomial logistic regression for features x (n, d)."""
    return fit_linear(x, labels, num_classes, penalty, one_class.loss())


def fit_linear(
    x: "Tensor", targets: "Tensor", outputs: int, penalty: float, loss_of: Loss
) -> tuple["Tensor", "Tensor"]:
    """Weight (k, d) and bias (k) for features x (n, d) that minimise `loss_of(outputs, targets)`.

    L-BFGS minimises it plus `penalty` times the sum of squared weights. It works on standardised
    features, so that the penalty does not depend on their units; the result is for the features as they are.
    """
    import torch

    mean, deviation = x.mean(dim=0), x.std(dim=0) + 1e-6  # a feature may be constant
    standard = (x - mean) / deviation
    weight = torch.zeros(outputs, x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(outputs, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def closure() -> "Tensor":
        optimizer.zero_grad()
        loss = loss_of(standard @ weight.T + bias, targets) + penalty * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    # w·(x - mean) / deviation + b, written as a linear function of x itself.
    unscaled = weight.detach() / deviation
    return unscaled, bias.detach() - unscaled @ mean
