"""The tests of station 7: `Block`."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.recorder import Recorder
from vitral.lab.replacements import copy_weights
from vitral.lab.station import Pair, RightPrediction, Station, law
from vitral.nn.attention import Attention
from vitral.nn.mlp import MLP


class ZeroBranch(nn.Module):
    """A branch that returns zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def draw_tokens(recorder: Recorder) -> Tensor:
    return recorder.normal(2, recorder.integer(3, 5), 2 * recorder.integer(2, 4))


def build_block(recorder: Recorder, width: int, attn: bool = True, mlp: bool = True) -> Any:
    """Build a block of this width; a branch that is switched off returns zeros."""
    branches = Attention(width, 2) if attn else ZeroBranch(), MLP(width, width + 3) if mlp else ZeroBranch()
    return recorder.build("Block", *branches, width)


def observe(recorder: Recorder) -> None:
    x = draw_tokens(recorder)
    block = build_block(recorder, x.shape[-1])
    recorder.call(block, x, gradients=False)
    recorder.call(block, x)
    recorder.call(block, 1e-3 * x)
    recorder.call(build_block(recorder, x.shape[-1], attn=False, mlp=False), x, gradients=False)


@law()
def zero_branches(recorder: Recorder) -> Pair:
    """If attn and mlp return zeros, the block returns its input unchanged."""
    x = draw_tokens(recorder)
    return recorder.call(build_block(recorder, x.shape[-1], attn=False, mlp=False), x), x


@law()
def attention_added(recorder: Recorder) -> Pair:
    """If mlp returns zeros, the block adds attn(norm1(x)) to x."""
    x = draw_tokens(recorder)
    block = build_block(recorder, x.shape[-1], mlp=False)
    return recorder.call(block, x) - x, block.attn(block.norm1(x))


@law()
def mlp_added(recorder: Recorder) -> Pair:
    """If attn returns zeros, the block adds mlp(norm2(x)) to x."""
    x = draw_tokens(recorder)
    block = build_block(recorder, x.shape[-1], attn=False)
    return recorder.call(block, x) - x, block.mlp(block.norm2(x))


@law()
def offset_goes_through(recorder: Recorder) -> Pair:
    """A number added to all of x is added to the result: the norms remove it, the stream keeps it."""
    x = draw_tokens(recorder)
    block, offset = build_block(recorder, x.shape[-1]), recorder.normal(2, 1, 1)
    return recorder.call(block, x + offset), recorder.call(block, x) + offset


@law()
def two_blocks_in_a_row(recorder: Recorder) -> Pair:
    """A block does what two blocks in a row do: the first with attn alone, the second with mlp alone."""
    x = draw_tokens(recorder)
    width = x.shape[-1]
    whole = recorder.call(build_block(recorder, width), x)
    attended = recorder.call(build_block(recorder, width, mlp=False), x)
    return whole, recorder.call(build_block(recorder, width, attn=False), attended)


def insert(model: Any, answer: Any) -> nn.Module:
    width = model.norm.weight.shape[0]
    for place, ours in enumerate(model.blocks):
        model.blocks[place] = copy_weights(answer.Block(ours.attn, ours.mlp, width), ours)
    return model


block = Station(
    number=7,
    title="A block and its residual stream",
    minutes=15,
    difficulty=2,
    prediction=RightPrediction(
        "b",
        "Zeros are added, but the norms are on the stream and normalise it all the same. In your block the norms are "
        "on the branches: there the input would come out unchanged.",
    ),
    hints=(
        "Follow the upper line of the figure: x passes straight through, and at each + something is added to it.",
        "Each branch begins with its own norm, takes the stream at that point, and returns what is added. The second "
        "branch takes the stream after the first was added to it.",
        "The first line is x = x + self.attn(self.norm1(x)). The second has the same form, with the other norm and "
        "branch.",
    ),
    observe=observe,
    insert=insert,
)
