"""`attention_cost`: attention costs O(N² D).

One block is run as it stands, then its two halves alone: the meeting of tokens, softmax(q kᵀ / √e) v, whose cost grows
with N², and everything else, whose cost grows with N. Nothing is trained; a seed is a repetition of the timing.

Axes:  b images   h heads   n tokens   d width   e width of one head   y x rows, columns of patches
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitral.nn.attention import Attention
from vitral.nn.block import Block
from vitral.nn.family.window import ShiftedWindows
from vitral.nn.mlp import MLP
from vitral.studies.drawing import scaling
from vitral.studies.rules import Beyond, Exactly, Within
from vitral.studies.study import Arm, Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Study
from vitral.studies.training import Trained

SIZES = tuple(2**power for power in range(4, 13))  # tokens: 16 to 4,096
TOKENS = 4_096  # at a time: so many images that all sizes have as many tokens
REPEATS = 5
ENDS = 3  # sizes at either end through which an exponent is fitted
RATIO = 4  # of the MLP, the lecture's
WINDOW = 4  # patches: its side divides every map that is timed


class WrittenOut(Attention):
    """The same attention in so many words: it forms the (n, n) weights, and keeps them to train."""

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        return self.proj(rearrange(weights @ v, "b h n e -> b n (h e)"))


class NotMeeting(Attention):
    """Each token takes its own value: everything of attention but the meeting."""

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.proj(self.qkv(x).chunk(3, dim=-1)[2].contiguous())


MIXERS: dict[str, Callable[[int, int], nn.Module]] = {
    "fused": Attention,
    "written out": WrittenOut,
    "not meeting": NotMeeting,
    "windows": partial(ShiftedWindows, window_size=WINDOW),
}


def block_of(mixer: Callable[[int, int], nn.Module], width: int, heads: int) -> Block:
    return Block(mixer(width, heads), MLP(width, RATIO * width), width)


def images_of(kind: str, n: int, width: int, count: int) -> Tensor:
    """Tokens of `count` images; on their map where attention is within windows."""
    side = 1 << (n.bit_length() - 1) // 2
    return torch.randn(count, side, n // side, width) if kind == "windows" else torch.randn(count, n, width)


def macs(kind: str, width: int, heads: int, n: int) -> int:
    """Multiply-adds for one image, as PyTorch counts them where tensors hold nothing."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        block_of(MIXERS[kind], width, heads)(images_of(kind, n, width, 1))
    return counter.get_total_flops() // 2


@torch.inference_mode()
def seconds(function: Callable[[], object]) -> float:
    """The shortest of some runs after a first, in seconds of one thread: time spent waiting for others is not in it."""
    function()
    taken = []
    for _ in range(REPEATS):
        began = time.thread_time()
        function()
        taken.append(time.thread_time() - began)
    return min(taken)


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def saved(block: nn.Module, x: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, but parameters; memory that is shared counts once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in block.parameters()}
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = block(x.requires_grad_())
        total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return total


def exponent(values: Sequence[float], which: slice) -> float:
    """p of values that grow as N^p, fitted through some of the sizes."""
    return float(np.polyfit(np.log(SIZES[which]), np.log(values[which]), 1)[0])


def crossing(meeting: Sequence[float], rest: Sequence[float]) -> float:
    """The N at which the meeting begins to cost more than the rest: between sizes along a line in logarithms.

    Where they do not cross, the line is prolonged from the nearer end.
    """
    apart = np.log(meeting) - np.log(rest)
    above = np.flatnonzero(apart > 0)
    at = int(np.clip(above[0] if len(above) else len(SIZES) - 1, 1, len(SIZES) - 1))
    steps = np.log2(SIZES)[at - 1 : at + 1]
    return float(2 ** (steps[0] - apart[at - 1] * (steps[1] - steps[0]) / (apart[at] - apart[at - 1])))


def costs(trained: Trained) -> Measures:
    """For each size: multiply-adds, seconds an image of a block and of its rest, bytes kept; and what they fit."""
    kind, width, heads = (trained.condition[name] for name in ("kind", "width", "heads"))
    torch.manual_seed(trained.training.seed)
    block, rest = (block_of(MIXERS[name], width, heads).eval() for name in (kind, "not meeting"))
    found: dict[str, list[float]] = {name: [] for name in ("multiply_adds", "seconds", "rest_seconds", "saved")}
    with one_thread():
        for n in SIZES:
            count = TOKENS // n
            x = images_of(kind, n, width, count)
            found["multiply_adds"].append(macs(kind, width, heads, n))
            found["seconds"].append(seconds(partial(block, x)) / count)
            found["rest_seconds"].append(seconds(partial(rest, x)) / count)
            found["saved"].append(saved(block, x[:1].clone()))
    meeting = [max(whole - part, 1e-9) for whole, part in zip(found["seconds"], found["rest_seconds"])]
    equal = (2 + RATIO) * width  # tokens for which both halves take as many multiply-adds
    return found | {
        "share": [part / whole for part, whole in zip(meeting, found["seconds"])],
        "macs_ratio": macs("fused", width, heads, equal) / macs("not meeting", width, heads, equal),
        "crossing": crossing(meeting, found["rest_seconds"]),
        "crossing_over_macs": crossing(meeting, found["rest_seconds"]) / equal,
        **{f"{name}_small": exponent(values, slice(None, ENDS)) for name, values in found.items()},
        **{f"{name}_large": exponent(values, slice(-ENDS, None)) for name, values in found.items()},
    }


def condition(kind: str, width: int, heads: int) -> Condition:
    name = f"{kind}, D = {width}"
    return Condition(name, "shapes:size=32,n=8", settings=dict(kind=kind, width=width, heads=heads))


BLOCK = Arm("one block", "iso_attention_nano_patch8_48", samples=0)

attention_cost = Study(
    name="attention_cost",
    number=8,
    title="The cost of attention",
    claim="Attention costs O(N² · D): a ViT's cost grows with the square of the number of patches.",
    question="From how many tokens on is a block's time the time of attention, and what memory does it take to train?",
    arms=(BLOCK,),
    conditions=(
        condition("fused", 64, 4),
        condition("written out", 64, 4),
        condition("windows", 64, 4),
        condition("fused", 192, 3),
    ),
    hypotheses=(
        Hypothesis(
            "From 1,024 to 4,096 tokens the time of a block of width 64 grows with more than the 1.5th power of N.",
            'seconds_large["one block", "fused, D = 64"]',
            Beyond(1.5),
        ),
        Hypothesis(
            "From 16 to 64 tokens its time grows with N, to within a quarter of a power.",
            'seconds_small["one block", "fused, D = 64"] - 1',
            Within(0.25),
        ),
        Hypothesis(
            "At N = 6 D attention takes exactly as many multiply-adds as the rest: together twice the rest.",
            'abs(macs_ratio["one block", "fused, D = 64"] - 2) + abs(macs_ratio["one block", "fused, D = 192"] - 2)',
            Exactly(0),
        ),
        Hypothesis(
            "The time of attention overtakes that of the rest within a factor of two of N = 6 D, at width 64.",
            'log2(crossing_over_macs["one block", "fused, D = 64"])',
            Within(1.0),
        ),
        Hypothesis(
            "The same at width 192, whose heads are four times as wide.",
            'log2(crossing_over_macs["one block", "fused, D = 192"])',
            Within(1.0),
        ),
        Hypothesis(
            "The fused kernel keeps memory that grows with N, not N²: exactly the first power from 1,024 tokens on.",
            'saved_large["one block", "fused, D = 64"] - 1',
            Exactly(1e-3),
        ),
        Hypothesis(
            "Written out, it keeps memory that grows with more than the 1.5th power.",
            'saved_large["one block", "written out, D = 64"]',
            Beyond(1.5),
        ),
        Hypothesis(
            "Within windows the time grows with N throughout, to within a quarter of a power.",
            'seconds_large["one block", "windows, D = 64"] - 1',
            Within(0.25),
        ),
    ),
    outcomes=Outcomes(
        supported="True of thousands of tokens, with which a block's time does grow towards N². With how few it is "
        "that of the linear layers is asked separately. In multiply-adds attention overtakes them at N = 6 D: 4,608 "
        "tokens for ViT-B, which has 197. And memory need not grow with N² at all: a fused kernel never forms the "
        "matrix.",
        refuted="Not found on this machine: even from 1,024 to 4,096 tokens a block's time is far from growing as N².",
    ),
    would_change="Another machine: multiply-adds are the same everywhere, but not the time of a softmax, of narrow "
    "products and of memory. Wider heads make attention cheaper for each multiply-add.",
    budgets={
        "smoke": Budget(0, 2, images=8, judged=8, only=("windows, D = 64",)),
        "quick": Budget(0, 5, images=8, judged=8),
        "full": Budget(0, 10, images=8, judged=8),
    },
    measure=costs,
    figures=(
        scaling(
            SIZES,
            {
                "seconds": ("time for an image", "s"),
                "saved": ("kept to train", "B"),
                "multiply_adds": ("multiply-adds", ""),
            },
            "tokens N",
            "One block, forward, for one image: time, memory that its backward pass needs, and multiply-adds. Dotted: "
            "a line that grows with N, and one that grows with N².",
        ),
    ),
    exact=(
        Fact(
            "A block of width D with an MLP of 4 D takes 12 N D² + 2 N² D multiply-adds: the terms are equal at N = 6 "
            "D. For ViT-B/16 at 224 pixels, N = 197 and D = 768, the second is 4 % of them.",
            "tests/laws/test_study_attention_cost.py",
        ),
        Fact(
            "An image of 1,024 x 1,024 pixels in patches of 16 is 4,096 tokens; one head's matrix has 4,096² = 16.8 "
            "million entries, 64 MiB in float32.",
            "tests/laws/test_study_attention_cost.py",
        ),
        Fact(
            "The fused kernel keeps nothing of N² entries for the backward pass; written out, h N² numbers are kept.",
            "tests/laws/test_study_attention_cost.py",
        ),
    ),
    published=(
        Fact(
            "Attention within windows of M x M tokens takes 4 N D² + 2 M² N D multiply-adds, linear in N.",
            "Liu et al. 2021, arXiv 2103.14030, §3.2, and microsoft/Swin-Transformer, models/swin_transformer.py",
        ),
    ),
    correction="It is also said that at 1,024 pixels with patches of 16 a head's matrix has 64 million entries. It "
    "has 4,096² = 16.8 million; 64 is their size in MiB, in float32.",
    alone=True,
)
