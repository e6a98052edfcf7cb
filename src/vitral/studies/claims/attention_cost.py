"""`attention_cost`: attention costs O(N² D).

One block is timed, and then the same block without attention between tokens. The difference is softmax(q kᵀ / √e) v,
whose cost grows with N²; the rest grows with N. Nothing is trained; a seed is a repetition of the timing.

Axes:  b images   h heads   n tokens   d width   e width of one head   y x rows, columns of patches
"""

from collections.abc import Callable, Sequence
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
from vitral.studies.costs import forward_time, one_thread, saved_bytes
from vitral.studies.decision_rules import Beyond, Exactly, Within
from vitral.studies.effects import Effect, Measure, log2
from vitral.studies.figures import scaling
from vitral.studies.study import Arm, Budget, Condition, Fact, Hypothesis, Measures, Outcomes, Study
from vitral.studies.training import Trained

SIZES = tuple(2**power for power in range(4, 13))  # tokens: 16 to 4,096
TOKENS = 4_096  # per batch: the number of images is chosen so that all sizes have the same number of tokens
REPEATS = 5
ENDS = 3  # sizes at either end through which an exponent is fitted
RATIO = 4  # of the MLP
WINDOW = 4  # patches: divides the side of every grid that is timed


class WrittenOut(Attention):
    """Attention without a fused kernel: it forms the (n, n) weights, and keeps them for the backward pass."""

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:  # type: ignore[override]  # one way only
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        return self.proj(rearrange(weights @ v, "b h n e -> b n (h e)"))


class ProjectionsOnly(Attention):
    """Attention's linear layers without the attention: each token gets its own value."""

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:  # type: ignore[override]  # one way only
        return self.proj(self.qkv(x).chunk(3, dim=-1)[2].contiguous())


MIXERS: dict[str, Callable[[int, int], nn.Module]] = {
    "fused": Attention,
    "written out": WrittenOut,
    "projections only": ProjectionsOnly,
    "windows": partial(ShiftedWindows, window_size=WINDOW),
}


def build_block(mixer: Callable[[int, int], nn.Module], width: int, heads: int) -> Block:
    return Block(mixer(width, heads), MLP(width, RATIO * width), width)


def random_tokens(kind: str, n: int, width: int, count: int) -> Tensor:
    """`n` tokens for each of `count` images; on a grid if attention is within windows."""
    side = 1 << (n.bit_length() - 1) // 2
    return torch.randn(count, side, n // side, width) if kind == "windows" else torch.randn(count, n, width)


def count_macs(kind: str, width: int, heads: int, n: int) -> int:
    """Multiply-adds of a block for one image, as PyTorch counts them on the meta device."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build_block(MIXERS[kind], width, heads)(random_tokens(kind, n, width, 1))
    return counter.get_total_flops() // 2


def exponent(values: Sequence[float], which: slice) -> float:
    """p such that the values grow as N^p, fitted through some of the sizes."""
    return float(np.polyfit(np.log(SIZES[which]), np.log(values[which]), 1)[0])


def crossing(attention: Sequence[float], rest: Sequence[float]) -> float:
    """The N from which attention costs more than the rest, interpolated in logarithms between two sizes.

    If they do not cross, the line is extended from the nearer end.
    """
    ratio = np.log(attention) - np.log(rest)
    above = np.flatnonzero(ratio > 0)
    at = int(np.clip(above[0] if len(above) else len(SIZES) - 1, 1, len(SIZES) - 1))
    steps = np.log2(SIZES)[at - 1 : at + 1]
    return float(2 ** (steps[0] - ratio[at - 1] * (steps[1] - steps[0]) / (ratio[at] - ratio[at - 1])))


def costs(trained: Trained) -> Measures:
    """For each size: multiply-adds, seconds per image of a block and of its rest, bytes kept; and fits to these."""
    kind, width, heads = (trained.condition[name] for name in ("kind", "width", "heads"))
    torch.manual_seed(trained.training.seed)
    block, rest = (build_block(MIXERS[name], width, heads).eval() for name in (kind, "projections only"))
    found: dict[str, list[float]] = {name: [] for name in ("multiply_adds", "seconds", "rest_seconds", "saved")}
    with one_thread():
        for n in SIZES:
            count = TOKENS // n
            x = random_tokens(kind, n, width, count)
            found["multiply_adds"].append(count_macs(kind, width, heads, n))
            found["seconds"].append(forward_time(block, x) / count)
            found["rest_seconds"].append(forward_time(rest, x) / count)
            found["saved"].append(saved_bytes(block, x[:1].clone()))
    # Timings vary, so for few tokens the difference may come out below zero, which has no logarithm.
    attention = [max(whole - part, 1e-9) for whole, part in zip(found["seconds"], found["rest_seconds"])]
    equal = (2 + RATIO) * width  # tokens for which attention and the rest take the same number of multiply-adds
    return found | {
        "share": [part / whole for part, whole in zip(attention, found["seconds"])],
        "macs_ratio": count_macs("fused", width, heads, equal) / count_macs("projections only", width, heads, equal),
        "crossing": crossing(attention, found["rest_seconds"]),
        "crossing_over_macs": crossing(attention, found["rest_seconds"]) / equal,
        **{f"{name}_small": exponent(values, slice(None, ENDS)) for name, values in found.items()},
        **{f"{name}_large": exponent(values, slice(-ENDS, None)) for name, values in found.items()},
    }


def condition(kind: str, width: int, heads: int) -> Condition:
    name = f"{kind}, D = {width}"
    settings = dict(kind=kind, width=width, heads=heads)
    return Condition(name, "shapes:size=32,n=8", settings=settings, alone=True)


BLOCK = Arm("one block", "iso_attention_nano_patch8_48", samples=0)


def block_cost(measure: str, condition: str) -> Effect:
    return Measure(measure)[BLOCK.name, condition]


attention_cost = Study(
    name="attention_cost",
    number=8,
    title="The cost of attention",
    claim="Attention costs O(N² · D): a ViT's cost grows with the square of the number of patches.",
    question="From how many tokens on does attention dominate a block's time, and how much memory does training take?",
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
            block_cost("seconds_large", "fused, D = 64"),
            Beyond(1.5),
        ),
        Hypothesis(
            "From 16 to 64 tokens its time grows with N, to within a quarter of a power.",
            block_cost("seconds_small", "fused, D = 64") - 1,
            Within(0.25),
        ),
        Hypothesis(
            "At N = 6 D attention takes exactly as many multiply-adds as the rest: together twice the rest.",
            abs(block_cost("macs_ratio", "fused, D = 64") - 2) + abs(block_cost("macs_ratio", "fused, D = 192") - 2),
            Exactly(0),
        ),
        Hypothesis(
            "At width 64, attention takes more time than the rest from an N within a factor of two of 6 D.",
            log2(block_cost("crossing_over_macs", "fused, D = 64")),
            Within(1.0),
        ),
        Hypothesis(
            "The same at width 192, where heads are four times as wide.",
            log2(block_cost("crossing_over_macs", "fused, D = 192")),
            Within(1.0),
        ),
        Hypothesis(
            "With a fused kernel the memory for training grows with N, not N²: exactly linear from 1,024 tokens on.",
            block_cost("saved_large", "fused, D = 64") - 1,
            Exactly(1e-3),
        ),
        Hypothesis(
            "Without a fused kernel it grows with more than the 1.5th power.",
            block_cost("saved_large", "written out, D = 64"),
            Beyond(1.5),
        ),
        Hypothesis(
            "Within windows the time grows with N at all sizes, to within a quarter of a power.",
            block_cost("seconds_large", "windows, D = 64") - 1,
            Within(0.25),
        ),
    ),
    outcomes=Outcomes(
        supported="True for thousands of tokens, where a block's time does approach growth with N². How it grows with "
        "few tokens is a separate hypothesis. In multiply-adds, attention overtakes the rest at N = 6 D: 4,608 tokens "
        "for ViT-B, which has 197. Memory need not grow with N² at all: a fused kernel never forms the matrix.",
        refuted="Not found on this machine: even from 1,024 to 4,096 tokens a block's time grows far slower than N².",
    ),
    would_change="Another machine: multiply-adds are the same everywhere, but the time of a softmax, of narrow "
    "products and of memory accesses is not. Wider heads make attention cheaper per multiply-add.",
    budgets={
        "smoke": Budget(0, 2, images=8, eval_images=8, only=("windows, D = 64",)),
        "quick": Budget(0, 5, images=8, eval_images=8),
        "full": Budget(0, 10, images=8, eval_images=8),
    },
    measure=costs,
    figures=(
        scaling(
            SIZES,
            {
                "seconds": ("time per image", "s"),
                "saved": ("memory for training", "B"),
                "multiply_adds": ("multiply-adds", ""),
            },
            "tokens N",
            "One block and one image: forward time, memory for the backward pass, multiply-adds. Dotted: N and N².",
        ),
    ),
    exact=Fact.proved(
        "attention_cost",
        "A block of width D with an MLP of 4 D takes 12 N D² + 2 N² D multiply-adds; the terms are equal at N = 6 "
        "D. For ViT-B/16 at 224 pixels, N = 197 and D = 768, the second is 4 % of the total.",
        "An image of 1,024 x 1,024 pixels in patches of 16 has 4,096 tokens; one head's matrix has 4,096² = 16.8 "
        "million entries, 64 MiB in float32.",
        "The fused kernel keeps nothing with N² entries for the backward pass; without it, h N² numbers are kept.",
    ),
    published=(
        Fact(
            "Attention within windows of M x M tokens takes 4 N D² + 2 M² N D multiply-adds, linear in N.",
            "Liu et al. 2021, arXiv 2103.14030, §3.2, and microsoft/Swin-Transformer, models/swin_transformer.py",
        ),
    ),
    correction="It is also said that at 1,024 pixels with patches of 16 a head's matrix has 64 million entries. It has "
    "4,096² = 16.8 million; 64 is their size in MiB, in float32.",
)
