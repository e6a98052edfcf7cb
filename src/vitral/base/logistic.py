"""Multinomial logistic regression, the classifier of a linear probe.

Axes:  n examples   d width   k classes
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MAX_STEPS = 100


def fit_logistic(x: "Tensor", labels: "Tensor", num_classes: int, penalty: float) -> tuple["Tensor", "Tensor"]:
    """Weight (k, d) and bias (k) for features x (n, d).

    L-BFGS minimises the mean cross-entropy plus `penalty` times the sum of squared weights. It works on standardised
    features, so that the penalty does not depend on their units; the result is for the features as they are.
    """
    import torch
    import torch.nn.functional as F

    mean, deviation = x.mean(dim=0), x.std(dim=0) + 1e-6  # a feature may be constant
    standard = (x - mean) / deviation
    weight = torch.zeros(num_classes, x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

    def closure() -> "Tensor":
        optimizer.zero_grad()
        loss = F.cross_entropy(standard @ weight.T + bias, labels) + penalty * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    # w·(x - mean) / deviation + b, written as a linear function of x itself.
    unscaled = weight.detach() / deviation
    return unscaled, bias.detach() - unscaled @ mean
