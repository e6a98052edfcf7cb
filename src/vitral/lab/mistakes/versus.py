"""How tokens meet wrongly on their map, and how reach and cost are miscounted."""

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from vitral.lab.station import Mistake


def mixed_by(convolve: Callable[[Tensor, Tensor], Tensor]) -> Mapping[str, Any]:
    """A `mixed` with another convolution of the map (b, d, rows, columns)."""

    def mixed(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
        return convolve(tokens.mT.unflatten(2, grid), weight).flatten(2).mT

    return {"mixed": mixed}


def convolved(images: Tensor, weight: Tensor, padding: int = 1) -> Tensor:
    return F.conv2d(images, weight, padding=padding, groups=len(weight))


def wrapped(images: Tensor, weight: Tensor) -> Tensor:
    return convolved(F.pad(images, (1, 1, 1, 1), mode="circular"), weight, padding=0)


def dense(images: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(images, weight.expand(-1, len(weight), -1, -1), padding=1)


def sides_swapped(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    return convolved(tokens.mT.unflatten(2, grid[::-1]), weight).flatten(2).mT


def reshaped(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    images = tokens.reshape(len(tokens), len(weight), *grid)
    return convolved(images, weight).reshape(tokens.shape)


def reshaped_in(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    images = tokens.reshape(len(tokens), len(weight), *grid)
    return convolved(images, weight).flatten(2).mT


def reshaped_back(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    return convolved(tokens.mT.unflatten(2, grid), weight).reshape(tokens.shape)


def reach_by(reach: Callable[[int, int], int]) -> Mapping[str, Any]:
    return {"reach": reach}


def share_by(share: Callable[[int, int], float]) -> Mapping[str, Any]:
    return {"attention_share": share}


rows_for_columns = Mistake(
    "Rows and columns were taken for each other: your map has as many rows as there should be columns. It would not "
    "show on a square map.",
    "In the sequence, how many tokens on is the patch below? Is it a row's length in your map?",
    {"mixed": sides_swapped},
)
torn_by_reshape = Mistake(
    "Tokens became a map by a reshape, and tokens again by another: that mixes channels with places. Axes are swapped "
    "by a transpose.",
    "In memory the d numbers of one token lie beside each other. Where do they go in your reshape?",
    {"mixed": reshaped},
)
torn_on_the_way_in = Mistake(
    "Tokens became a map by a reshape: that mixes channels with places. The way back is right.",
    "In memory the d numbers of one token lie beside each other. Is that so in a map of (d, rows, columns)?",
    {"mixed": reshaped_in},
)
torn_on_the_way_back = Mistake(
    "The way to the map is right, but the way back is a reshape: the channels came first and were not moved back.",
    "After the convolution, which axis is the last? Which should be?",
    {"mixed": reshaped_back},
)
no_padding = Mistake(
    "The convolution has no padding: the tokens at the edge are gone.",
    "How many tokens go in, and how many come out? What does a corner lack to be convolved?",
    mixed_by(lambda images, weight: convolved(images, weight, padding=0)),
)
edges_joined = Mistake(
    "The map was wrapped around: what is at the left edge meets what is at the right one. Beyond the edge are zeros.",
    "Which patch is to the left of the first one in a row?",
    mixed_by(wrapped),
)
channels_meet = Mistake(
    "Every channel sums over all channels: without `groups=d` it is no depthwise convolution.",
    "How many numbers does your convolution multiply for one number of its output: 9, or 9 d?",
    mixed_by(dense),
)
stream_added = Mistake(
    "The tokens were added to what was mixed. That is right in a block, but it is the block that does it.",
    "What should come out if the kernel is all zeros?",
    mixed_by(lambda images, weight: images + convolved(images, weight)),
)
kernels_side_by_side = Mistake(
    "The reach counts a whole kernel for each block, as if their windows lay side by side; they overlap in the middle.",
    "What does a token see when there is no block at all? How many more to each side, after one?",
    reach_by(lambda blocks, kernel: blocks * kernel),
)
reach_multiplied = Mistake(
    "The reach grows by a factor with every block. That is so where blocks also make the map smaller; here each adds.",
    "Two blocks of 3: how far to the left can a patch be, and still count?",
    reach_by(lambda blocks, kernel: kernel**blocks),
)
one_side = Mistake(
    "The reach goes to one side only: a kernel sees as far to the left as to the right.",
    "A kernel of 3 around the middle: how many patches does it see in all?",
    reach_by(lambda blocks, kernel: 1 + blocks * (kernel // 2)),
)
always_three = Mistake(
    "The reach counts every kernel as one of 3.",
    "By how much more does a block see with a kernel of 7?",
    reach_by(lambda blocks, kernel: 1 + 2 * blocks),
)
one_product = Mistake(
    "Only one of the two products among tokens was counted: queries by keys, or weights by values.",
    "How often do n tokens meet n tokens in attention? What is each time multiplied?",
    share_by(lambda n, d: n * d * n / (12 * n * d**2 + n * d * n)),
)
beside_the_linear = Mistake(
    "The n² part was divided by the linear part, where a share is divided by the whole.",
    "What does yours give at n = 6 d, where both cost the same? What would half be?",
    share_by(lambda n, d: 2 * n**2 * d / (12 * n * d**2)),
)
no_mlp = Mistake(
    "Of the linear maps only those of attention were counted, 4 n d²: the MLP's two are missing.",
    "Which linear maps stand in a block beside `qkv` and `proj`? How wide are they?",
    share_by(lambda n, d: 2 * n**2 * d / (4 * n * d**2 + 2 * n**2 * d)),
)
percent = Mistake(
    "The share was given in percent: a share is a number between 0 and 1.",
    "Which number is all of something, as a share?",
    share_by(lambda n, d: 100 * 2 * n**2 * d / (12 * n * d**2 + 2 * n**2 * d)),
)
whole_numbers_only = Mistake(
    "The share was rounded down to a whole number, and that is 0.",
    "What do / and // give for 1 by 4?",
    share_by(lambda n, d: 2 * n**2 * d // (12 * n * d**2 + 2 * n**2 * d)),
)
