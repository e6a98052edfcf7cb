"""What goes wrong in GELU, LayerNorm and MLP."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.lab.solutions.feed_forward import MLP, LayerNorm, gelu
from vitral.lab.station import Mistake


def bending(bend: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Another `gelu`, and the MLP that calls it."""

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.fc2(bend(self.fc1(x)))

    return {"gelu": bend, "MLP": type("MLP", (MLP,), {"forward": forward})}


def norming(forward: Callable[[Any, Tensor], Tensor]) -> dict[str, Any]:
    """A `LayerNorm` that does something else."""
    return {"LayerNorm": type("LayerNorm", (LayerNorm,), {"forward": forward})}


def thinking(forward: Callable[[Any, Tensor], Tensor]) -> dict[str, Any]:
    """An `MLP` that does something else."""
    return {"MLP": type("MLP", (MLP,), {"forward": forward})}


def by_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def without_root(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x)) / 2


def by_sigmoid(x: Tensor) -> Tensor:
    return x * x.sigmoid()


def by_scaled_sigmoid(x: Tensor) -> Tensor:
    return x * (1.702 * x).sigmoid()


def halved(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / 2)) / 2


def share(x: Tensor) -> Tensor:
    return (1 + torch.erf(x / 2**0.5)) / 2


def twice_the_share(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / 2**0.5))


def centred(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def one_less(self: Any, x: Tensor) -> Tensor:
    variance = x.var(dim=-1, keepdim=True)
    return centred(x) / (variance + self.eps).sqrt() * self.weight + self.bias


def outside(self: Any, x: Tensor) -> Tensor:
    return centred(x) / (x.std(dim=-1, keepdim=True, unbiased=False) + self.eps) * self.weight + self.bias


def over_tokens(self: Any, x: Tensor) -> Tensor:
    mean, variance = x.mean(dim=-2, keepdim=True), x.var(dim=-2, keepdim=True, unbiased=False)
    return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias


def from_zero(self: Any, x: Tensor) -> Tensor:
    return centred(x) / (x.square().mean(dim=-1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias


def by_variance(self: Any, x: Tensor) -> Tensor:
    return centred(x) / (x.var(dim=-1, keepdim=True, unbiased=False) + self.eps) * self.weight + self.bias


def offset_first(self: Any, x: Tensor) -> Tensor:
    variance = x.var(dim=-1, keepdim=True, unbiased=False)
    return (centred(x) / (variance + self.eps).sqrt() + self.bias) * self.weight


def over_all(self: Any, x: Tensor) -> Tensor:
    return (x - x.mean()) / (x.var(unbiased=False) + self.eps).sqrt() * self.weight + self.bias


class FixedEps(LayerNorm):
    def __init__(self, embed_dim: int, eps: float = 1e-6):
        super().__init__(embed_dim)


class LargerEps(LayerNorm):
    def __init__(self, embed_dim: int, eps: float = 1e-5):
        super().__init__(embed_dim, eps)


class FromNothing(LayerNorm):
    def __init__(self, embed_dim: int, eps: float = 1e-6):
        super().__init__(embed_dim, eps)
        nn.init.zeros_(self.weight)


def straight(self: Any, x: Tensor) -> Tensor:
    return self.fc2(self.fc1(x))


def cut_at_zero(self: Any, x: Tensor) -> Tensor:
    return self.fc2(F.relu(self.fc1(x)))


def bent_after(self: Any, x: Tensor) -> Tensor:
    return gelu(self.fc2(self.fc1(x)))


tanh_curve = Mistake(
    "This GELU is the approximation by tanh: near, but not the same numbers.",
    "Which function gives the share of a normal distribution exactly, and which was a fast stand-in for it?",
    bending(by_tanh),
)
root_of_two_missing = Mistake(
    "The root of two is missing inside erf: the bend is too sharp.",
    "erf belongs to a curve of variance 1/2. What must x be divided by to make it the curve of variance 1?",
    bending(without_root),
)
two_for_its_root = Mistake(
    "Inside erf x is divided by 2, where the root of 2 is asked for: the bend is too soft.",
    "erf belongs to a curve of variance 1/2. Is a variance doubled by stretching the curve by 2, or by less?",
    bending(halved),
)
scaled_sigmoid = Mistake(
    "This GELU is the approximation by a sigmoid of 1.702 x: near, but not the same numbers.",
    "Which function gives the share of a normal distribution exactly?",
    bending(by_scaled_sigmoid),
)
sigmoid_for_share = Mistake(
    "x is multiplied by its sigmoid, which is another bend (SiLU); GELU takes the share of a normal distribution.",
    "Is the sigmoid of 1 equal to 0.84, the share of a normal distribution below 1?",
    bending(by_sigmoid),
)
share_alone = Mistake(
    "The share itself is given back; it should be multiplied by x.",
    "What should a large number such as 10 become: about 10, or about 1?",
    bending(share),
)
divided_by_one_less = Mistake(
    "The variance is divided by d - 1; here it is the plain mean of squares, divided by d.",
    "By what does `x.var` divide when nothing else is said?",
    norming(one_less),
)
eps_outside = Mistake(
    "eps is added to the root of the variance; it belongs under the root. It shows in tokens that hardly vary.",
    "Is eps added to a variance or to a deviation?",
    norming(outside),
)
eps_of_torch = Mistake(
    "eps is 1e-5 when nothing else is said, which is PyTorch's choice; ViT uses 1e-6.",
    "What is the eps of LayerNorm(64), made without a second argument?",
    {"LayerNorm": LargerEps},
)
tokens_normed_together = Mistake(
    "Mean and variance run along the tokens; every token should be normed by itself, along its own numbers.",
    "How many means does a sequence of 5 tokens need: one for each token, or one for each of their numbers?",
    norming(over_tokens),
)
variance_from_zero = Mistake(
    "The variance is taken of x as it came in, before its mean was taken away.",
    "What is the variance of a token whose numbers are all 7? What does yours give?",
    norming(from_zero),
)
no_root = Mistake(
    "The token is divided by its variance; it should be by the root of it.",
    "All numbers become ten times as large. How much larger is the variance, and how much its root?",
    norming(by_variance),
)
bias_before_weight = Mistake(
    "The bias is added before the weight multiplies, so it is scaled too.",
    "Which comes first in the line of LayerNorm: the product or the sum?",
    norming(offset_first),
)
weight_from_zero = Mistake(
    "The weight of a new LayerNorm is zero: it lets nothing of a token through.",
    "By what do you multiply so that a new LayerNorm leaves the normed token as it is?",
    {"LayerNorm": FromNothing},
)
no_bend = Mistake(
    "There is no GELU between the two linear maps: together they are no more than one linear map.",
    "Which line of yours calls `gelu`?",
    thinking(straight),
)
bend_at_the_end = Mistake(
    "GELU comes after the second map; it belongs between the two.",
    "Should what the MLP gives be able to be far below zero?",
    thinking(bent_after),
)
not_halved = Mistake(
    "1 + erf is not halved: it goes from 0 to 2, and a share goes from 0 to 1.",
    "What should a large number such as 10 become: about 10, or about 20?",
    bending(twice_the_share),
)
all_normed_together = Mistake(
    "There is one mean and one variance for all numbers; every token should have its own.",
    "In which shape is your mean, for 5 tokens of 8 numbers?",
    norming(over_all),
)
eps_not_used = Mistake(
    "The eps that is given is not used: it is 1e-6 whatever was asked for.",
    "What is the eps of your LayerNorm(64, 0.1)?",
    {"LayerNorm": FixedEps},
)
relu_for_gelu = Mistake(
    "Between the two linear maps stands a ReLU, which cuts off at zero; it should be your GELU.",
    "What becomes of -0.5 between your two maps: zero, or something below it?",
    thinking(cut_at_zero),
)
