"""Station 5: `Attention`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.lab.graft import with_weights
from vitral.lab.inspection import Inspection
from vitral.lab.station import Law, Pair, Prediction, Station


def built(inspection: Inspection) -> tuple[Any, Tensor, int]:
    """A module, tokens that it takes, and the width of one of its heads."""
    heads, width, tokens = inspection.integer(2, 3), inspection.integer(2, 4), inspection.integer(5, 6)
    module = inspection.build("Attention", heads * width, heads)
    return module, inspection.normal(2, tokens, heads * width), width


def handing_on(module: Any) -> Any:
    """The module, with a `proj` that changes nothing: what the heads found comes out."""
    with torch.no_grad():
        module.proj.weight.copy_(torch.eye(len(module.proj.weight)))
        module.proj.bias.zero_()
    return module


def values(module: Any, x: Tensor) -> Tensor:
    return F.linear(x, module.qkv.weight, module.qkv.bias)[..., 2 * x.shape[-1] :]


def observe(inspection: Inspection) -> None:
    module, x, _ = built(inspection)
    inspection.ask(module, x)
    inspection.ask(module, x[:1, :3])
    inspection.note("num_heads of Attention", str(getattr(module, "num_heads", "missing")))
    inspection.ask(inspection.build("Attention", 12, 4), inspection.normal(3, 4, 12))


def each_by_itself(inspection: Inspection) -> Pair:
    module, x, _ = built(inspection)
    return inspection.ask(module, x)[1:], inspection.ask(module, x[1:])


def alone(inspection: Inspection) -> Pair:
    module, x, _ = built(inspection)
    found = inspection.ask(module, x[:, :1])
    return found, F.linear(values(module, x[:, :1]), module.proj.weight, module.proj.bias)


def in_any_order(inspection: Inspection) -> Pair:
    module, x, _ = built(inspection)
    order = inspection.order(x.shape[1])
    return inspection.ask(module, x[:, order]), inspection.ask(module, x)[:, order]


def without_queries(inspection: Inspection) -> Pair:
    module, x, _ = built(inspection)
    with torch.no_grad():
        for own in (module.qkv.weight, module.qkv.bias):
            own[: x.shape[-1]] = 0
    mean = values(module, x).mean(dim=1, keepdim=True)
    return inspection.ask(handing_on(module), x), mean.expand_as(x)


def bias_of_keys(inspection: Inspection) -> Pair:
    module, x, _ = built(inspection)
    before = inspection.ask(module, x)
    with torch.no_grad():
        module.qkv.bias[x.shape[-1] : 2 * x.shape[-1]] = inspection.normal(x.shape[-1])
    return inspection.ask(module, x), before


def heads_apart(inspection: Inspection) -> Pair:
    module, x, width = built(inspection)
    before = inspection.ask(handing_on(module), x)
    with torch.no_grad():
        module.qkv.weight[:width] = inspection.normal(width, x.shape[-1])
    return inspection.ask(module, x)[..., width:], before[..., width:]


def first_head_alone(inspection: Inspection) -> Pair:
    module, x, width = built(inspection)
    single: Any = inspection.build("Attention", width, 1)
    rows = torch.cat([torch.arange(width) + part * x.shape[-1] for part in range(3)])
    with torch.no_grad():
        single.qkv.weight.copy_(module.qkv.weight[rows, :width])
        single.qkv.bias.copy_(module.qkv.bias[rows])
    first = torch.cat([x[..., :width], torch.zeros_like(x[..., width:])], dim=-1)
    return inspection.ask(handing_on(module), first)[..., :width], inspection.ask(handing_on(single), x[..., :width])


def graft(model: Any, answer: Any) -> nn.Module:
    for block in model.blocks:
        mine = answer.Attention(block.attn.proj.out_features, block.attn.num_heads)
        block.attn = with_weights(mine, block.attn)
    return model


heads = Station(
    name="heads",
    number=5,
    title="Many heads",
    minutes=25,
    difficulty=4,
    prediction=Prediction(
        "b",
        "Eight heads are half as wide as four: `qkv` is d x 3 d and `proj` d x d, whatever the number of heads. Heads "
        "only decide how the numbers are grouped.",
    ),
    hints=(
        "Follow the shapes: (b, n, 3 d) must become three of (b, heads, n, e). First split the last axis, in the order "
        "that the figure shows; then bring the heads before the tokens.",
        "The last axis is (three, heads, e), the slowest first. Your `attention` works on the last two axes and takes "
        "all that stands before them as a batch. Afterwards go the same way back: the tokens before the heads, then "
        "join heads and e.",
        'With einops the way there begins with "b n (three h e)" and the way back with "b h n e". Which axis must come '
        "first on the right, so that q, k and v can be unpacked? `attention` returns two things, and `proj` takes the "
        "first when its heads are joined.",
    ),
    observe=observe,
    laws=(
        Law("Each image of a batch is attended to as if it were alone.", each_by_itself),
        Law("A token that is alone takes its own value whole: `proj` of the last third of `qkv`.", alone),
        Law("Tokens in another order give the same results, in that order.", in_any_order),
        Law("Where all queries are zeros, each token gets the mean of all values.", without_queries),
        Law("Another bias of the keys changes nothing: it adds the same to a whole row of products.", bias_of_keys),
        Law("Another query in the first head changes nothing in what the other heads find.", heads_apart),
        Law(
            "The first head finds what an attention with this one head alone finds, of its own width.", first_head_alone
        ),
    ),
    graft=graft,
)
