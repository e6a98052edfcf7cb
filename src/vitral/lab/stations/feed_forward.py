"""Station 6: `gelu`, `LayerNorm` and `MLP`."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.graft import with_weights
from vitral.lab.inspection import Inspection
from vitral.lab.station import Law, Pair, Prediction, Station


def drawn(inspection: Inspection) -> Tensor:
    """Tokens whose numbers are far apart and not around zero, so that eps does not show."""
    width = inspection.integer(4, 7)
    return 100 * inspection.normal(2, inspection.integer(3, 5), width) + 50


def plain(inspection: Inspection, width: int) -> Any:
    """A LayerNorm whose weight is 1 and whose bias is 0."""
    norm: Any = inspection.build("LayerNorm", width)
    with torch.no_grad():
        norm.weight.fill_(1)
        norm.bias.zero_()
    return norm


def note_new(inspection: Inspection, width: int) -> None:
    """See the numbers that a LayerNorm begins with; one of this width was built before."""
    named = dict(inspection.answer.LayerNorm(width).named_parameters())
    begun = [named[name].detach().clone() for name in sorted(named)]
    inspection.note(f"bias or weight of a new LayerNorm({width})", begun)


def observe(inspection: Inspection) -> None:
    inspection.ask("gelu", inspection.normal(3, 4))
    inspection.ask("gelu", 5 * inspection.normal(2, 2, 3))
    tokens = drawn(inspection)
    width = tokens.shape[-1]
    norm = inspection.build("LayerNorm", width)
    inspection.ask(norm, tokens)
    inspection.ask(norm, inspection.normal(4, width))
    inspection.ask(norm, 1e-3 * inspection.normal(2, 3, width))
    inspection.ask(norm, inspection.normal(2, 3, 1).expand(-1, -1, width))
    inspection.ask(inspection.build("LayerNorm", width, 0.1), inspection.normal(2, 3, width))
    note_new(inspection, width)
    mlp = inspection.build("MLP", width, 2 * width + 1)
    inspection.ask(mlp, inspection.normal(2, 3, width))
    inspection.ask(mlp, inspection.normal(4, width))


def halves_differ_by_x(inspection: Inspection) -> Pair:
    x = 2 * inspection.normal(3, 4)
    return inspection.ask("gelu", x, flows=False) - inspection.ask("gelu", -x, flows=False), x


def share_passes(inspection: Inspection) -> Pair:
    x = 2 * inspection.normal(3, 4)
    return inspection.ask("gelu", x, flows=False), x * torch.distributions.Normal(0.0, 1.0).cdf(x)


def mean_is_zero(inspection: Inspection) -> Pair:
    tokens = drawn(inspection)
    normed = inspection.ask(plain(inspection, tokens.shape[-1]), tokens, flows=False)
    return normed.mean(dim=-1), torch.zeros_like(tokens[..., 0])


def variance_is_one(inspection: Inspection) -> Pair:
    tokens = drawn(inspection)
    normed = inspection.ask(plain(inspection, tokens.shape[-1]), tokens, flows=False)
    return normed.square().mean(dim=-1), torch.ones_like(tokens[..., 0])


def each_by_itself(inspection: Inspection) -> Pair:
    tokens = drawn(inspection)
    norm = inspection.build("LayerNorm", tokens.shape[-1])
    whole = inspection.ask(norm, tokens, flows=False)
    return whole[:, 1:], inspection.ask(norm, tokens[:, 1:], flows=False)


def scale_then_offset(inspection: Inspection) -> Pair:
    tokens = drawn(inspection)
    norm: Any = inspection.build("LayerNorm", tokens.shape[-1])
    scaled = inspection.ask(norm, tokens, flows=False)
    weight, bias = norm.weight.detach().clone(), norm.bias.detach().clone()
    normed = inspection.ask(plain(inspection, tokens.shape[-1]), tokens, flows=False)
    return scaled, normed * weight + bias


def nothing_passes(inspection: Inspection) -> Pair:
    tokens = inspection.normal(2, 3, 4)
    mlp: Any = inspection.build("MLP", 4, 6)
    with torch.no_grad():
        mlp.fc1.weight.zero_()
        mlp.fc1.bias.fill_(-100)
    return inspection.ask(mlp, tokens, flows=False), mlp.fc2.bias.expand(2, 3, 4)


def graft(model: Any, answer: Any) -> nn.Module:
    width = model.norm.weight.shape[0]
    for block in model.blocks:
        block.norm1 = with_weights(answer.LayerNorm(width), block.norm1)
        block.norm2 = with_weights(answer.LayerNorm(width), block.norm2)
        block.mlp = with_weights(answer.MLP(width, block.mlp.fc1.out_features), block.mlp)
    model.norm = with_weights(answer.LayerNorm(width), model.norm)
    return model


feed_forward = Station(
    name="feed_forward",
    number=6,
    title="What each token does by itself",
    minutes=25,
    difficulty=2,
    prediction=Prediction(
        "b",
        "Ten times the numbers have ten times the distance from their mean, and a root of the variance that is ten "
        "times as large: it goes out in the division.",
    ),
    hints=(
        "A sequence of 5 tokens of 8 numbers: how many means does LayerNorm take, and along which axis? In which shape "
        "must they stand to be taken away from (5, 8)? And of what you wrote, what may the MLP call?",
        "Mean and variance run along the last axis, with keepdim=True. Take the mean away first and keep what is left: "
        "the variance is the mean of its squares. eps is added to the variance, and the root taken of both together.",
        "GELU is one line: x times Φ(x), with torch.erf and 2**0.5. LayerNorm is three: what is left without the mean; "
        "the mean of its squares; the first by the root of the second and eps, then times weight, then plus bias. The "
        "MLP bends what fc1 gives before fc2 sees it.",
    ),
    observe=observe,
    laws=(
        Law("GELU of a number less GELU of its opposite is the number itself.", halves_differ_by_x),
        Law("GELU lets through the share of a normal distribution that lies below the number.", share_passes),
        Law("With weight 1 and bias 0, LayerNorm gives every token the mean 0.", mean_is_zero),
        Law(
            "With weight 1 and bias 0, the squares of every normed token have the mean 1.", variance_is_one, within=1e-5
        ),
        Law("Each token is normed as if it were alone.", each_by_itself),
        Law("The normed token is multiplied by the weight, and then the bias is added.", scale_then_offset),
        Law(
            "Where all that fc1 gives is far below zero, nothing passes: the MLP gives the bias of fc2.", nothing_passes
        ),
    ),
    graft=graft,
)
