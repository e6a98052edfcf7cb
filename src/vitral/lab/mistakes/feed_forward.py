"""Mistakes in GELU, LayerNorm and the MLP."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.lab.solutions.feed_forward import MLP, LayerNorm, gelu
from vitral.lab.station import Mistake, mistake


def gelu_mistake(curve: Callable[[Tensor], Tensor]) -> Mistake:
    """Declare a wrong `gelu` as a mistake, together with the MLP that calls it."""

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.fc2(curve(self.fc1(x)))

    return mistake("gelu", MLP=type("MLP", (MLP,), {"forward": forward}))(curve)


def divide(norm: Any, centred: Tensor, variance: Tensor) -> Tensor:
    """Finish a LayerNorm, given the numbers minus their mean and their variance."""
    return centred / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def centre(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def variance(x: Tensor) -> Tensor:
    return x.var(dim=-1, keepdim=True, unbiased=False)


@gelu_mistake
def tanh_curve(x: Tensor) -> Tensor:
    """This GELU is the approximation by tanh: close, but not the same numbers.

    Which function computes the cumulative normal distribution exactly, and which is a fast approximation of it?
    """
    return F.gelu(x, approximate="tanh")


@gelu_mistake
def root_of_two_missing(x: Tensor) -> Tensor:
    """The root of two is missing inside erf: the bend is too sharp.

    erf belongs to a normal distribution of variance 1/2. By what must x be divided to get variance 1?
    """
    return x * (1 + torch.erf(x)) / 2


@gelu_mistake
def two_for_its_root(x: Tensor) -> Tensor:
    """Inside erf x is divided by 2; it should be divided by the root of 2. The bend is too soft.

    erf belongs to a normal distribution of variance 1/2. Does stretching by 2 double a variance, or do more?
    """
    return x * (1 + torch.erf(x / 2)) / 2


@gelu_mistake
def scaled_sigmoid(x: Tensor) -> Tensor:
    """This GELU is the approximation by a sigmoid of 1.702 x: close, but not the same numbers.

    Which function computes the cumulative normal distribution exactly?
    """
    return x * (1.702 * x).sigmoid()


@gelu_mistake
def sigmoid_for_share(x: Tensor) -> Tensor:
    """x is multiplied by its sigmoid, which is another activation (SiLU); GELU uses the cumulative normal distribution.

    Is the sigmoid of 1 equal to 0.84, the share of a normal distribution below 1?
    """
    return x * x.sigmoid()


@gelu_mistake
def share_alone(x: Tensor) -> Tensor:
    """The result is Φ(x) alone; it should be multiplied by x.

    What should a large number such as 10 become: about 10, or about 1?
    """
    return (1 + torch.erf(x / 2**0.5)) / 2


@mistake("LayerNorm.forward")
def divided_by_one_less(self: Any, x: Tensor) -> Tensor:
    """The variance is divided by d - 1; here it is the plain mean of squares, divided by d.

    By what does `x.var` divide by default?
    """
    return divide(self, centre(x), x.var(dim=-1, keepdim=True))


@mistake("LayerNorm.forward")
def eps_outside(self: Any, x: Tensor) -> Tensor:
    """eps is added to the root of the variance; it belongs under the root. It shows in tokens that hardly vary.

    Is eps added to a variance or to a standard deviation?
    """
    return centre(x) / (variance(x).sqrt() + self.eps) * self.weight + self.bias


@mistake("LayerNorm.__init__")
def eps_of_torch(self: Any, embed_dim: int, eps: float = 1e-5) -> None:
    """The default of eps is 1e-5, as in PyTorch; ViT uses 1e-6.

    What is the eps of LayerNorm(64), made without a second argument?
    """
    LayerNorm.__init__(self, embed_dim, eps)


@mistake("LayerNorm.forward")
def tokens_normed_together(self: Any, x: Tensor) -> Tensor:
    """Mean and variance run along the tokens; every token should be normalised by itself, along its own numbers.

    How many means does a sequence of 5 tokens need: one per token, or one per number of a token?
    """
    return divide(self, x - x.mean(dim=-2, keepdim=True), x.var(dim=-2, keepdim=True, unbiased=False))


@mistake("LayerNorm.forward")
def variance_from_zero(self: Any, x: Tensor) -> Tensor:
    """The variance is computed from x before the mean is subtracted.

    What is the variance of a token whose numbers are all 7? What is yours?
    """
    return divide(self, centre(x), x.square().mean(dim=-1, keepdim=True))


@mistake("LayerNorm.forward")
def no_root(self: Any, x: Tensor) -> Tensor:
    """The token is divided by its variance; it should be divided by the root of it.

    If all numbers become ten times as large, how much larger is the variance, and how much its root?
    """
    return centre(x) / (variance(x) + self.eps) * self.weight + self.bias


@mistake("LayerNorm.forward")
def bias_before_weight(self: Any, x: Tensor) -> Tensor:
    """The bias is added before the multiplication by the weight, so that it is scaled too.

    Which comes first in the formula of LayerNorm: the product or the sum?
    """
    return (centre(x) / (variance(x) + self.eps).sqrt() + self.bias) * self.weight


@mistake("LayerNorm.__init__")
def weight_from_zero(self: Any, embed_dim: int, eps: float = 1e-6) -> None:
    """The weight of a new LayerNorm is zero, so that its output is zero.

    By what do you multiply to leave the normalised token as it is?
    """
    LayerNorm.__init__(self, embed_dim, eps)
    nn.init.zeros_(self.weight)


@mistake("MLP.forward")
def no_bend(self: Any, x: Tensor) -> Tensor:
    """There is no GELU between the two linear layers: together they are just one linear layer.

    Which of your lines calls `gelu`?
    """
    return self.fc2(self.fc1(x))


@mistake("MLP.forward")
def bend_at_the_end(self: Any, x: Tensor) -> Tensor:
    """GELU comes after the second linear layer; it belongs between the two.

    Should the output of the MLP be able to be far below zero?
    """
    return gelu(self.fc2(self.fc1(x)))


@gelu_mistake
def not_halved(x: Tensor) -> Tensor:
    """1 + erf is not halved: it runs from 0 to 2, but Φ runs from 0 to 1.

    What should a large number such as 10 become: about 10, or about 20?
    """
    return x * (1 + torch.erf(x / 2**0.5))


@mistake("LayerNorm.forward")
def all_normed_together(self: Any, x: Tensor) -> Tensor:
    """There is one mean and one variance for all tokens together; every token should have its own.

    What shape does your mean have, for 5 tokens of 8 numbers?
    """
    return divide(self, x - x.mean(), x.var(unbiased=False))


@mistake("LayerNorm.__init__")
def eps_not_used(self: Any, embed_dim: int, eps: float = 1e-6) -> None:
    """The argument eps is not used: it is always 1e-6.

    What is the eps of your LayerNorm(64, 0.1)?
    """
    LayerNorm.__init__(self, embed_dim)


@mistake("MLP.forward")
def relu_for_gelu(self: Any, x: Tensor) -> Tensor:
    """There is a ReLU between the two linear layers, which sets negative numbers to zero; it should be your GELU.

    What becomes of -0.5 between your two linear layers: zero, or a negative number?
    """
    return self.fc2(F.relu(self.fc1(x)))
