"""Multinomial logistic regression: the lines that a linear probe draws between classes.

Axes:  n examples   d width   k classes
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 100


def logistic(x: "Tensor", labels: "Tensor", num_classes: int, penalty: float) -> tuple["Tensor", "Tensor"]:
    """Weight (k, d) and bias (k) for features x (n, d) as they are, fitted to them standardised.

    What is made smallest, by L-BFGS, is the mean cross-entropy plus `penalty` times the sum of the squared weights of
    the standardised features.
    """
    import torch
    import torch.nn.functional as F

    mean, deviation = x.mean(dim=0), x.std(dim=0) + 1e-6
    standard = (x - mean) / deviation
    weight = torch.zeros(num_classes, x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> "Tensor":
        optimizer.zero_grad()
        loss = F.cross_entropy(standard @ weight.T + bias, labels) + penalty * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    plain = weight.detach() / deviation
    return plain, bias.detach() - plain @ mean
