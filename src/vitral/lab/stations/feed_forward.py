"""The tests of station 6: `gelu`, `LayerNorm` and `MLP`."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.recorder import Recorder
from vitral.lab.replacements import copy_weights
from vitral.lab.station import Pair, RightPrediction, Station, law


def draw_tokens(recorder: Recorder) -> Tensor:
    """Return tokens whose numbers are far apart and not around zero, so that eps has no effect."""
    width = recorder.integer(4, 7)
    return 100 * recorder.normal(2, recorder.integer(3, 5), width) + 50


def build_plain_norm(recorder: Recorder, width: int) -> Any:
    """Build a LayerNorm whose weight is 1 and whose bias is 0."""
    norm: Any = recorder.build("LayerNorm", width)
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    return norm


def record_new_norm(recorder: Recorder, width: int) -> None:
    """Record the initial weight and bias; `build` has replaced them by random numbers."""
    named = dict(recorder.answer.LayerNorm(width).named_parameters())
    initial = [named[name].detach().clone() for name in sorted(named)]
    recorder.record(f"The bias or weight of a new LayerNorm({width})", initial)


def observe(recorder: Recorder) -> None:
    recorder.call("gelu", recorder.normal(3, 4))
    recorder.call("gelu", 5 * recorder.normal(2, 2, 3))
    tokens = draw_tokens(recorder)
    width = tokens.shape[-1]
    norm = recorder.build("LayerNorm", width)
    recorder.call(norm, tokens)
    recorder.call(norm, recorder.normal(4, width))
    recorder.call(norm, 1e-3 * recorder.normal(2, 3, width))
    recorder.call(norm, recorder.normal(2, 3, 1).expand(-1, -1, width))
    recorder.call(recorder.build("LayerNorm", width, 0.1), recorder.normal(2, 3, width))
    record_new_norm(recorder, width)
    mlp = recorder.build("MLP", width, 2 * width + 1)
    recorder.call(mlp, recorder.normal(2, 3, width))
    recorder.call(mlp, recorder.normal(4, width))


@law()
def halves_differ_by_x(recorder: Recorder) -> Pair:
    """GELU of x minus GELU of -x is x."""
    x = 2 * recorder.normal(3, 4)
    return recorder.call("gelu", x) - recorder.call("gelu", -x), x


@law()
def share_passes(recorder: Recorder) -> Pair:
    """GELU of x is x times the share of a normal distribution that is below x."""
    x = 2 * recorder.normal(3, 4)
    return recorder.call("gelu", x), x * torch.distributions.Normal(0.0, 1.0).cdf(x)


@law()
def mean_is_zero(recorder: Recorder) -> Pair:
    """With weight 1 and bias 0, every normalised token has mean 0."""
    tokens = draw_tokens(recorder)
    normed = recorder.call(build_plain_norm(recorder, tokens.shape[-1]), tokens)
    return normed.mean(dim=-1), torch.zeros_like(tokens[..., 0])


@law(within=1e-05)
def variance_is_one(recorder: Recorder) -> Pair:
    """With weight 1 and bias 0, the squares of every normalised token have mean 1."""
    tokens = draw_tokens(recorder)
    normed = recorder.call(build_plain_norm(recorder, tokens.shape[-1]), tokens)
    return normed.square().mean(dim=-1), torch.ones_like(tokens[..., 0])


@law()
def each_by_itself(recorder: Recorder) -> Pair:
    """Each token is normalised as if it were alone."""
    tokens = draw_tokens(recorder)
    norm = recorder.build("LayerNorm", tokens.shape[-1])
    whole = recorder.call(norm, tokens)
    return whole[:, 1:], recorder.call(norm, tokens[:, 1:])


@law()
def scale_then_offset(recorder: Recorder) -> Pair:
    """The normalised token is multiplied by the weight, and then the bias is added."""
    tokens = draw_tokens(recorder)
    norm: Any = recorder.build("LayerNorm", tokens.shape[-1])
    scaled = recorder.call(norm, tokens)
    weight, bias = norm.weight.detach().clone(), norm.bias.detach().clone()
    normed = recorder.call(build_plain_norm(recorder, tokens.shape[-1]), tokens)
    return scaled, normed * weight + bias


@law()
def nothing_passes(recorder: Recorder) -> Pair:
    """If the output of fc1 is far below zero everywhere, the MLP returns the bias of fc2."""
    tokens = recorder.normal(2, 3, 4)
    mlp: Any = recorder.build("MLP", 4, 6)
    nn.init.zeros_(mlp.fc1.weight)
    nn.init.constant_(mlp.fc1.bias, -100)
    return recorder.call(mlp, tokens), mlp.fc2.bias.expand(2, 3, 4)


def insert(model: Any, answer: Any) -> nn.Module:
    width = model.norm.weight.shape[0]
    for block in model.blocks:
        block.norm1 = copy_weights(answer.LayerNorm(width), block.norm1)
        block.norm2 = copy_weights(answer.LayerNorm(width), block.norm2)
        block.mlp = copy_weights(answer.MLP(width, block.mlp.fc1.out_features), block.mlp)
    model.norm = copy_weights(answer.LayerNorm(width), model.norm)
    return model


feed_forward = Station(
    number=6,
    title="The MLP and its norm: each token by itself",
    minutes=25,
    difficulty=2,
    prediction=RightPrediction(
        "b",
        "Ten times the numbers are ten times as far from their mean, and the root of their variance is ten times as "
        "large: the factor cancels in the division.",
    ),
    hints=(
        "For a sequence of 5 tokens of 8 numbers, how many means does LayerNorm compute, and along which axis? What "
        "shape must they have to be subtracted from (5, 8)? And which of your functions can the MLP call?",
        "Mean and variance run along the last axis, with keepdim=True. Subtract the mean first and keep the result: "
        "the variance is the mean of its squares. Add eps to the variance, and take the root of the sum.",
        "GELU is one line: x times Φ(x), with torch.erf and 2**0.5. LayerNorm is three: x minus its mean; the mean of "
        "the squares; the first divided by the root of the second plus eps, times weight, plus bias. The MLP applies "
        "GELU to the output of fc1, and fc2 to that.",
    ),
    observe=observe,
    insert=insert,
)
