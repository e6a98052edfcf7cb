"""Station 12: `mixed`, `reach` and `attention_share`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitral.lab.inspection import Inspection
from vitral.lab.station import Law, Pair, Prediction, Station
from vitral.nn.attention import Attention
from vitral.nn.block import Block
from vitral.nn.family.mixer import DepthwiseMixing
from vitral.nn.mlp import MLP

STACKS = ((1, 3), (3, 3), (2, 5), (3, 7))  # blocks, kernel
BLOCKS = ((197, 768), (50, 64), (384, 64))  # tokens, width


def drawn(inspection: Inspection) -> tuple[Tensor, tuple[int, int]]:
    """Tokens of a map that is not square, and its rows and columns."""
    rows, columns, width = inspection.integer(3, 4), inspection.integer(5, 6), inspection.integer(3, 5)
    return inspection.normal(2, rows * columns, width), (rows, columns)


def observe(inspection: Inspection) -> None:
    tokens, grid = drawn(inspection)
    inspection.ask("mixed", tokens, grid, inspection.normal(tokens.shape[2], 1, 3, 3))
    inspection.ask("mixed", inspection.normal(1, 9, 1), (3, 3), inspection.normal(1, 1, 3, 3))
    for blocks in range(4):
        for kernel in (1, 3, 5, 7):
            inspection.ask("reach", blocks, kernel, flows=False)
    for n, width in ((197, 768), (16, 64), (1024, 32), (inspection.integer(2, 9), inspection.integer(2, 9))):
        inspection.ask("attention_share", n, width, flows=False)


def one_at(row: int, column: int, width: int) -> Tensor:
    """A kernel for each channel with a single one."""
    weight = torch.zeros(width, 1, 3, 3, dtype=torch.float64)
    weight[:, :, row, column] = 1
    return weight


def middle(inspection: Inspection) -> Pair:
    tokens, grid = drawn(inspection)
    return inspection.ask("mixed", tokens, grid, one_at(1, 1, tokens.shape[2])), tokens


def right_neighbour(inspection: Inspection) -> Pair:
    tokens, grid = drawn(inspection)
    moved = F.pad(tokens.unflatten(1, grid)[:, :, 1:], (0, 0, 0, 1)).flatten(1, 2)
    return inspection.ask("mixed", tokens, grid, one_at(1, 2, tokens.shape[2])), moved


def lower_neighbour(inspection: Inspection) -> Pair:
    tokens, grid = drawn(inspection)
    moved = F.pad(tokens[:, grid[1] :], (0, 0, 0, grid[1]))
    return inspection.ask("mixed", tokens, grid, one_at(2, 1, tokens.shape[2])), moved


def channels_by_themselves(inspection: Inspection) -> Pair:
    tokens, grid = drawn(inspection)
    weight = inspection.normal(tokens.shape[2], 1, 3, 3)
    alone = inspection.ask("mixed", tokens[:, :, 1:2].contiguous(), grid, weight[1:2])
    return inspection.ask("mixed", tokens, grid, weight)[:, :, 1:2], alone


def first_block(inspection: Inspection) -> Pair:
    kernel = 2 * inspection.integer(1, 4) + 1
    found = [float(inspection.ask("reach", blocks, kernel, flows=False)) for blocks in (0, 1)]
    return torch.tensor(found), torch.tensor([1.0, kernel])


def blocks_add_up(inspection: Inspection) -> Pair:
    kernel, first, second = 2 * inspection.integer(1, 4) + 1, inspection.integer(1, 3), inspection.integer(1, 3)
    parts = [float(inspection.ask("reach", blocks, kernel, flows=False)) for blocks in (first, second)]
    whole = float(inspection.ask("reach", first + second, kernel, flows=False))
    return torch.tensor(whole), torch.tensor(sum(parts) - 1)


def meeting_beside_linear(inspection: Inspection) -> Pair:
    n, width = inspection.integer(2, 400), inspection.integer(2, 400)
    share = torch.tensor(inspection.ask("attention_share", n, width, flows=False), dtype=torch.float64)
    return share / (1 - share), torch.tensor(n / (6 * width), dtype=torch.float64)


def seen_by_one(blocks: int, kernel: int) -> int:
    """How many patches of a row one token's output hangs on in a stack of Vitral's blocks, by its gradients."""
    side = 2 * blocks * kernel + 1
    mixers = [DepthwiseMixing(4, 1, kernel_size=kernel) for _ in range(blocks)]
    for mixer in mixers:
        mixer.set_grid((1, side), 0)
    stack = nn.Sequential(*(Block(mixer, MLP(4, 8), 4) for mixer in mixers)).double()
    tokens = torch.randn(1, side, 4, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(stack(tokens)[0, side // 2, 0], tokens)
    return int(slopes[0].any(dim=1).sum())


def counted_share(n: int, width: int) -> float:
    """The share of what is no linear map in the multiply-adds that PyTorch counts for one of Vitral's blocks."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        Block(Attention(width, 4), MLP(width, 4 * width), width)(torch.empty(1, n, width))
    return 1 - counter.get_flop_counts()["Global"][torch.ops.aten.addmm] / counter.get_total_flops()


def applied(answer: Any) -> dict[str, Pair]:
    ours, tokens = DepthwiseMixing(6, 1), torch.randn(2, 20, 6)
    ours.set_grid((4, 5), 0)
    with torch.no_grad():
        theirs = ours.proj(answer.mixed(tokens, ours.grid, ours.conv.weight) + ours.conv.bias)
        mixed = (theirs, ours(tokens))
    reached = [[float(answer.reach(*stack)), float(seen_by_one(*stack))] for stack in STACKS]
    shares = [[float(answer.attention_share(*sizes)), counted_share(*sizes)] for sizes in BLOCKS]
    return {
        "tokens mixed by the convolution of Vitral's DepthwiseMixing": mixed,
        f"how far {len(STACKS)} stacks of blocks see, beside their gradients": torch.tensor(reached).unbind(dim=1),
        f"attention's share of {len(BLOCKS)} blocks, beside what PyTorch counts": torch.tensor(shares).unbind(dim=1),
    }


versus = Station(
    name="versus",
    number=12,
    title="ViT against CNN",
    minutes=30,
    difficulty=3,
    prediction=Prediction(
        "c",
        "2 n² d to 12 n d² is as n to 6 d, 197 to 4,608: 4 % of the whole. It would be half at 4,608 tokens.",
    ),
    hints=(
        "Channels are last in tokens and first in a map, after the batch: one transpose each way, and n splits into "
        "rows and columns. For the reach draw a few tokens in a row: which does the middle one see after one block?",
        "(b, n, d) -> (b, d, n) -> (b, d, rows, columns), then the same steps back. A kernel of k goes (k - 1) / 2 to "
        "each side, and every block goes on from there. A share is a part by the whole, so the part stands below too.",
        "Which method makes one axis into two, and which one two into one? For the reach make a table for 0, 1, 2 "
        "blocks of 3 and of 5: what grows by how much?",
    ),
    observe=observe,
    laws=(
        Law("A kernel with a one in the middle and zeros around it changes nothing.", middle),
        Law(
            "A kernel with its one to the right of the middle gives each token its neighbour on the right, and zero at "
            "the edge.",
            right_neighbour,
        ),
        Law(
            "A kernel with its one below the middle gives each token the one below it, a whole row later in the "
            "sequence, and zero at the edge.",
            lower_neighbour,
        ),
        Law("Each channel is convolved as if it were the only one.", channels_by_themselves),
        Law(
            "Without a block a token sees one patch, itself; after one block as many as the kernel is long.",
            first_block,
        ),
        Law(
            "Blocks add up: what two stacks see, one on the other, is the sum, with the middle counted once.",
            blocks_add_up,
        ),
        Law(
            "The n² part is to the linear maps as n is to 6 d: at n = 6 d tokens they cost the same.",
            meeting_beside_linear,
        ),
    ),
    applied=applied,
)
