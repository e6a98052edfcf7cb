"""Station 7: `Block`."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.graft import with_weights
from vitral.lab.inspection import Inspection
from vitral.lab.station import Law, Pair, Prediction, Station
from vitral.nn.attention import Attention
from vitral.nn.mlp import MLP


class Silent(nn.Module):
    """A branch that finds nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def drawn(inspection: Inspection) -> Tensor:
    return inspection.normal(2, inspection.integer(3, 5), 2 * inspection.integer(2, 4))


def built(inspection: Inspection, width: int, attn: bool = True, mlp: bool = True) -> Any:
    """A block of this width, whose branches may be silent."""
    meet = Attention(width, 2) if attn else Silent()
    think = MLP(width, width + 3) if mlp else Silent()
    return inspection.build("Block", meet, think, width)


def observe(inspection: Inspection) -> None:
    x = drawn(inspection)
    block = built(inspection, x.shape[-1])
    inspection.ask(block, x, flows=False)
    inspection.ask(block, x)
    inspection.ask(block, 1e-3 * x)
    inspection.ask(built(inspection, x.shape[-1], attn=False, mlp=False), x, flows=False)


def nothing_found(inspection: Inspection) -> Pair:
    x = drawn(inspection)
    return inspection.ask(built(inspection, x.shape[-1], attn=False, mlp=False), x, flows=False), x


def attention_added(inspection: Inspection) -> Pair:
    x = drawn(inspection)
    block = built(inspection, x.shape[-1], mlp=False)
    return inspection.ask(block, x, flows=False) - x, block.attn(block.norm1(x))


def mlp_added(inspection: Inspection) -> Pair:
    x = drawn(inspection)
    block = built(inspection, x.shape[-1], attn=False)
    return inspection.ask(block, x, flows=False) - x, block.mlp(block.norm2(x))


def one_after_the_other(inspection: Inspection) -> Pair:
    x = drawn(inspection)
    width = x.shape[-1]
    whole = inspection.ask(built(inspection, width), x, flows=False)
    met = inspection.ask(built(inspection, width, mlp=False), x, flows=False)
    return whole, inspection.ask(built(inspection, width, attn=False), met, flows=False)


def offset_goes_through(inspection: Inspection) -> Pair:
    x = drawn(inspection)
    block, offset = built(inspection, x.shape[-1]), inspection.normal(2, 1, 1)
    return inspection.ask(block, x + offset, flows=False), inspection.ask(block, x, flows=False) + offset


def graft(model: Any, answer: Any) -> nn.Module:
    width = model.norm.weight.shape[0]
    for place, ours in enumerate(model.blocks):
        model.blocks[place] = with_weights(answer.Block(ours.attn, ours.mlp, width), ours)
    return model


block = Station(
    name="block",
    number=7,
    title="A block and its stream",
    minutes=15,
    difficulty=2,
    prediction=Prediction(
        "b",
        "Zeros are added, but the norms stand on the stream and norm it all the same. In your block they stand on the "
        "branches: there the input would come out as it was.",
    ),
    hints=(
        "Follow the upper line of the drawing: x goes straight through, and at each + something is added to it.",
        "Each branch begins with its own norm, reads the stream as it stands there, and gives what is added. The "
        "second branch reads the stream after the first has added to it.",
        "The first line is x = x + self.attn(self.norm1(x)). The second is built the same way, with what is left.",
    ),
    observe=observe,
    laws=(
        Law("Where attn and mlp give zeros, the block gives its input as it was.", nothing_found),
        Law("Where mlp gives zeros, the block adds attn(norm1(x)) to x.", attention_added),
        Law("Where attn gives zeros, the block adds mlp(norm2(x)) to x.", mlp_added),
        Law(
            "A number that is added to all of x comes out added: the norms do not see it, the stream carries it.",
            offset_goes_through,
        ),
        Law(
            "A block does what two blocks do in a row: the first with attn alone, the second with mlp alone.",
            one_after_the_other,
        ),
    ),
    graft=graft,
)
