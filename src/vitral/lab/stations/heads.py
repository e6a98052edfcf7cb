"""The tests of station 5: `Attention`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.lab.recorder import Recorder
from vitral.lab.replacements import copy_weights
from vitral.lab.station import Pair, RightPrediction, Station, law


def build_module(recorder: Recorder) -> tuple[Any, Tensor, int]:
    """Return a module, tokens for it, and the width of one head."""
    heads, width, tokens = recorder.integer(2, 3), recorder.integer(2, 4), recorder.integer(5, 6)
    module = recorder.build("Attention", heads * width, heads)
    return module, recorder.normal(2, tokens, heads * width), width


def set_identity_projection(module: Any) -> Any:
    """Set `proj` to the identity, so that the result is the output of the heads."""
    nn.init.eye_(module.proj.weight)
    nn.init.zeros_(module.proj.bias)
    return module


def compute_values(module: Any, x: Tensor) -> Tensor:
    return F.linear(x, module.qkv.weight, module.qkv.bias)[..., 2 * x.shape[-1] :]


def observe(recorder: Recorder) -> None:
    module, x, _ = build_module(recorder)
    recorder.call(module, x)
    recorder.call(module, x[:1, :3])
    recorder.record("The num_heads of Attention", str(getattr(module, "num_heads", "missing")))
    recorder.call(recorder.build("Attention", 12, 4), recorder.normal(3, 4, 12))


@law()
def each_by_itself(recorder: Recorder) -> Pair:
    """The result for each image is the same as if it were alone in the batch."""
    module, x, _ = build_module(recorder)
    return recorder.call(module, x)[1:], recorder.call(module, x[1:])


@law()
def alone(recorder: Recorder) -> Pair:
    """A token that is alone receives its own value: `proj` of the last third of `qkv`."""
    module, x, _ = build_module(recorder)
    result = recorder.call(module, x[:, :1])
    return result, F.linear(compute_values(module, x[:, :1]), module.proj.weight, module.proj.bias)


@law()
def in_any_order(recorder: Recorder) -> Pair:
    """If the tokens are in another order, so are the results."""
    module, x, _ = build_module(recorder)
    order = recorder.permutation(x.shape[1])
    return recorder.call(module, x[:, order]), recorder.call(module, x)[:, order]


@law()
def without_queries(recorder: Recorder) -> Pair:
    """If all queries are zeros, each token gets the mean of all values."""
    module, x, _ = build_module(recorder)
    with torch.no_grad():
        for own in (module.qkv.weight, module.qkv.bias):
            own[: x.shape[-1]] = 0
    mean = compute_values(module, x).mean(dim=1, keepdim=True)
    return recorder.call(set_identity_projection(module), x), mean.expand_as(x)


@law()
def bias_of_keys(recorder: Recorder) -> Pair:
    """Another bias of the keys changes nothing: it adds the same number to a whole row of scores."""
    module, x, _ = build_module(recorder)
    before = recorder.call(module, x)
    with torch.no_grad():
        module.qkv.bias[x.shape[-1] : 2 * x.shape[-1]] = recorder.normal(x.shape[-1])
    return recorder.call(module, x), before


@law()
def heads_apart(recorder: Recorder) -> Pair:
    """Another query in the first head changes nothing in the output of the other heads."""
    module, x, width = build_module(recorder)
    before = recorder.call(set_identity_projection(module), x)
    with torch.no_grad():
        module.qkv.weight[:width] = recorder.normal(width, x.shape[-1])
    return recorder.call(module, x)[..., width:], before[..., width:]


@law()
def first_head_alone(recorder: Recorder) -> Pair:
    """The first head computes what an attention with this single head computes, with that head's width."""
    module, x, width = build_module(recorder)
    single: Any = recorder.build("Attention", width, 1)
    rows = torch.cat([torch.arange(width) + part * x.shape[-1] for part in range(3)])
    with torch.no_grad():
        single.qkv.weight.copy_(module.qkv.weight[rows, :width])
        single.qkv.bias.copy_(module.qkv.bias[rows])
    first = torch.cat([x[..., :width], torch.zeros_like(x[..., width:])], dim=-1)
    return recorder.call(set_identity_projection(module), first)[..., :width], recorder.call(
        set_identity_projection(single), x[..., :width]
    )


def insert(model: Any, answer: Any) -> nn.Module:
    for block in model.blocks:
        mine = answer.Attention(block.attn.proj.out_features, block.attn.num_heads)
        block.attn = copy_weights(mine, block.attn)
    return model


heads = Station(
    number=5,
    title="Many heads",
    minutes=25,
    difficulty=4,
    prediction=RightPrediction(
        "b",
        "Eight heads are half as wide as four: `qkv` is d x 3 d and `proj` is d x d, whatever the number of heads. "
        "Heads only decide how the numbers are grouped.",
    ),
    hints=(
        "Follow the shapes: (b, n, 3 d) must become three tensors of (b, heads, n, e). First split the last axis, in "
        "the order that the figure shows; then move the heads before the tokens.",
        "The last axis is (three, heads, e), the slowest first. Your `attention` works on the last two axes and treats "
        "all axes before them as a batch. Afterwards go the same way back: the tokens before the heads, then join "
        "heads and e.",
        'With einops the left side is "b n (three h e)" on the way there and "b h n e" on the way back. Which axis '
        "must come first on the right, so that q, k and v can be unpacked? `attention` returns two things; `proj` "
        "takes the first, once its heads are joined.",
    ),
    observe=observe,
    insert=insert,
)
