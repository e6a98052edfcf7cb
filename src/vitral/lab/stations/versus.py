"""The tests of station 12: `mixed`, `reach` and `attention_share`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitral.lab.recorder import Recorder
from vitral.lab.station import Pair, RightPrediction, Station, law
from vitral.nn.attention import Attention
from vitral.nn.block import Block
from vitral.nn.family.mixer import DepthwiseMixing
from vitral.nn.mlp import MLP

STACKS = ((1, 3), (3, 3), (2, 5), (3, 7))  # blocks, kernel
BLOCKS = ((197, 768), (50, 64), (384, 64))  # tokens, width


def draw_tokens(recorder: Recorder) -> tuple[Tensor, tuple[int, int]]:
    """Return tokens of a grid that is not square, and its rows and columns."""
    rows, columns, width = recorder.integer(3, 4), recorder.integer(5, 6), recorder.integer(3, 5)
    return recorder.normal(2, rows * columns, width), (rows, columns)


def observe(recorder: Recorder) -> None:
    tokens, grid = draw_tokens(recorder)
    recorder.call("mixed", tokens, grid, recorder.normal(tokens.shape[2], 1, 3, 3))
    recorder.call("mixed", recorder.normal(1, 9, 1), (3, 3), recorder.normal(1, 1, 3, 3))
    for blocks in range(4):
        for kernel in (1, 3, 5, 7):
            recorder.call("reach", blocks, kernel, gradients=False)
    for n, width in ((197, 768), (16, 64), (1024, 32), (recorder.integer(2, 9), recorder.integer(2, 9))):
        recorder.call("attention_share", n, width, gradients=False)


def build_kernel(row: int, column: int, width: int) -> Tensor:
    """Return a kernel that is 1 in one place and 0 elsewhere, for each channel."""
    weight = torch.zeros(width, 1, 3, 3, dtype=torch.float64)
    weight[:, :, row, column] = 1
    return weight


@law()
def middle(recorder: Recorder) -> Pair:
    """A kernel with a one in the middle and zeros around it changes nothing."""
    tokens, grid = draw_tokens(recorder)
    return recorder.call("mixed", tokens, grid, build_kernel(1, 1, tokens.shape[2])), tokens


@law()
def right_neighbour(recorder: Recorder) -> Pair:
    """A kernel with a one to the right of the middle returns each token's right neighbour, and zero at the edge."""
    tokens, grid = draw_tokens(recorder)
    moved = F.pad(tokens.unflatten(1, grid)[:, :, 1:], (0, 0, 0, 1)).flatten(1, 2)
    return recorder.call("mixed", tokens, grid, build_kernel(1, 2, tokens.shape[2])), moved


@law()
def lower_neighbour(recorder: Recorder) -> Pair:
    """A kernel with a one below the middle returns for each token the one below it, a row later in the sequence, and
    zero at the edge.
    """
    tokens, grid = draw_tokens(recorder)
    moved = F.pad(tokens[:, grid[1] :], (0, 0, 0, grid[1]))
    return recorder.call("mixed", tokens, grid, build_kernel(2, 1, tokens.shape[2])), moved


@law()
def channels_by_themselves(recorder: Recorder) -> Pair:
    """Each channel is convolved as if it were the only one."""
    tokens, grid = draw_tokens(recorder)
    weight = recorder.normal(tokens.shape[2], 1, 3, 3)
    alone = recorder.call("mixed", tokens[:, :, 1:2].contiguous(), grid, weight[1:2])
    return recorder.call("mixed", tokens, grid, weight)[:, :, 1:2], alone


@law()
def first_block(recorder: Recorder) -> Pair:
    """Without a block a token depends on one patch, itself; after one block on as many as the kernel is long."""
    kernel = 2 * recorder.integer(1, 4) + 1
    reaches = [float(recorder.call("reach", blocks, kernel)) for blocks in (0, 1)]
    return torch.tensor(reaches), torch.tensor([1.0, kernel])


@law()
def blocks_add_up(recorder: Recorder) -> Pair:
    """Blocks add up: the reach of two stacks in a row is the sum of both, with the middle counted once."""
    kernel, first, second = 2 * recorder.integer(1, 4) + 1, recorder.integer(1, 3), recorder.integer(1, 3)
    parts = [float(recorder.call("reach", blocks, kernel)) for blocks in (first, second)]
    whole = float(recorder.call("reach", first + second, kernel))
    return torch.tensor(whole), torch.tensor(sum(parts) - 1)


@law()
def attention_to_linear(recorder: Recorder) -> Pair:
    """The cost of the n² part relates to that of the linear layers as n to 6 d: at n = 6 d tokens they are equal."""
    n, width = recorder.integer(2, 400), recorder.integer(2, 400)
    share = torch.tensor(recorder.call("attention_share", n, width), dtype=torch.float64)
    return share / (1 - share), torch.tensor(n / (6 * width), dtype=torch.float64)


def measure_reach(blocks: int, kernel: int) -> int:
    """Count the patches of a row on which a token's output depends in a stack of Vitral's blocks, by its gradients."""
    side = 2 * blocks * kernel + 1
    mixers = [DepthwiseMixing(4, 1, kernel_size=kernel) for _ in range(blocks)]
    for mixer in mixers:
        mixer.set_grid((1, side), 0)
    stack = nn.Sequential(*(Block(mixer, MLP(4, 8), 4) for mixer in mixers)).double()
    tokens = torch.randn(1, side, 4, dtype=torch.float64, requires_grad=True)
    (gradients,) = torch.autograd.grad(stack(tokens)[0, side // 2, 0], tokens)
    return int(gradients[0].any(dim=1).sum())


def count_share(n: int, width: int) -> float:
    """Return the share of operations outside linear layers in what PyTorch counts for one of Vitral's blocks."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        Block(Attention(width, 4), MLP(width, 4 * width), width)(torch.empty(1, n, width))
    return 1 - counter.get_flop_counts()["Global"][torch.ops.aten.addmm] / counter.get_total_flops()


def compare_in_use(answer: Any) -> dict[str, Pair]:
    ours, tokens = DepthwiseMixing(6, 1), torch.randn(2, 20, 6)
    ours.set_grid((4, 5), 0)
    with torch.no_grad():
        theirs = ours.proj(answer.mixed(tokens, ours.grid, ours.conv.weight) + ours.conv.bias)
        mixed = (theirs, ours(tokens))
    reaches = [[float(answer.reach(*stack)), float(measure_reach(*stack))] for stack in STACKS]
    shares = [[float(answer.attention_share(*sizes)), count_share(*sizes)] for sizes in BLOCKS]
    return {
        "tokens after the convolution of Vitral's DepthwiseMixing": mixed,
        f"the reach of {len(STACKS)} stacks, compared with their gradients": torch.tensor(reaches).unbind(dim=1),
        f"attention's share of {len(BLOCKS)} blocks, compared with PyTorch's count": torch.tensor(shares).unbind(dim=1),
    }


versus = Station(
    number=12,
    title="ViT against CNN",
    minutes=30,
    difficulty=3,
    prediction=RightPrediction(
        "c",
        "2 n² d to 12 n d² is the same as n to 6 d, 197 to 4,608: 4% of the whole. It would be half at 4,608 tokens.",
    ),
    hints=(
        "Channels are last in tokens, and first after the batch in a feature map: one transpose each way, and n splits "
        "into rows and columns. For the reach draw a few tokens in a row: on which ones does the middle one depend "
        "after one block?",
        "(b, n, d) -> (b, d, n) -> (b, d, rows, columns), then the same steps back. A kernel of k reaches (k - 1) / 2 "
        "to each side, and every block starts from there. A share is a part divided by the whole, which contains the "
        "part.",
        "Which method splits one axis into two, and which one joins two into one? For the reach make a table for 0, 1, "
        "2 blocks of 3 and of 5: what grows, and by how much?",
    ),
    observe=observe,
    compare_in_use=compare_in_use,
)
