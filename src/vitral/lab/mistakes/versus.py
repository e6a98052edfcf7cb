"""Mistakes in a convolution over tokens, and in the reach and the cost of a block."""

import torch.nn.functional as F
from torch import Tensor

from vitral.lab.station import mistake


def to_features(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    return tokens.mT.unflatten(2, grid)


def convolve(images: Tensor, weight: Tensor, padding: int = 1) -> Tensor:
    return F.conv2d(images, weight, padding=padding, groups=len(weight))


def to_tokens(features: Tensor) -> Tensor:
    return features.flatten(2).mT


@mistake("mixed")
def rows_for_columns(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """Rows and columns are swapped: your feature map has as many rows as it should have columns. A square grid would
    not show it.

    How many tokens later in the sequence is the patch below? Is that the length of a row in your feature map?
    """
    return to_tokens(convolve(to_features(tokens, grid[::-1]), weight))


@mistake("mixed")
def torn_by_reshape(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """Tokens become a feature map, and tokens again, by reshapes, which mix channels with positions; use a transpose.

    In memory the d numbers of one token are neighbours. Where does your reshape put them?
    """
    images = tokens.reshape(len(tokens), len(weight), *grid)
    return convolve(images, weight).reshape(tokens.shape)


@mistake("mixed")
def torn_on_the_way_in(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """Tokens become a feature map by a reshape, which mixes channels with positions. The way back is right.

    In memory the d numbers of one token are neighbours. Is that so in a feature map (d, rows, columns)?
    """
    return to_tokens(convolve(tokens.reshape(len(tokens), len(weight), *grid), weight))


@mistake("mixed")
def torn_on_the_way_back(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """The way to the feature map is right, but the way back is a reshape, which leaves the channels first.

    After the convolution, which axis is the last? Which should be?
    """
    return convolve(to_features(tokens, grid), weight).reshape(tokens.shape)


@mistake("mixed")
def no_padding(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """The convolution has no padding, so that the tokens at the edge are lost.

    How many tokens go in, and how many come out? What does the kernel need around a corner?
    """
    return to_tokens(convolve(to_features(tokens, grid), weight, padding=0))


@mistake("mixed")
def edges_joined(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """The padding is circular: the left edge continues at the right one. It should be zeros.

    Which patch is to the left of the first one in a row?
    """
    padded = F.pad(to_features(tokens, grid), (1, 1, 1, 1), mode="circular")
    return to_tokens(convolve(padded, weight, padding=0))


@mistake("mixed")
def channels_meet(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """Every channel sums over all channels: without `groups=d` the convolution is not depthwise.

    How many numbers does your convolution multiply for one number of its output: 9, or 9 d?
    """
    return to_tokens(F.conv2d(to_features(tokens, grid), weight.expand(-1, len(weight), -1, -1), padding=1))


@mistake("mixed")
def stream_added(tokens: Tensor, grid: tuple[int, int], weight: Tensor) -> Tensor:
    """The tokens are added to the result of the convolution. The block does that, not this function.

    What should the result be if the kernel is all zeros?
    """
    return tokens + to_tokens(convolve(to_features(tokens, grid), weight))


@mistake("reach")
def kernels_side_by_side(blocks: int, kernel: int) -> int:
    """The reach counts a whole kernel per block, as if their windows were side by side; they overlap in the middle.

    How many patches does a token depend on without any block? How many more on each side, after one?
    """
    return blocks * kernel


@mistake("reach")
def reach_multiplied(blocks: int, kernel: int) -> int:
    """The reach grows by a factor with every block. That holds where blocks also shrink the feature map; here each
    block adds to it.

    With two blocks of 3, how far to the left can a patch be and still count?
    """
    return kernel**blocks


@mistake("reach")
def one_side(blocks: int, kernel: int) -> int:
    """The reach counts one side only; a kernel reaches as far to the left as to the right.

    How many patches does a kernel of 3 cover, with the middle?
    """
    return 1 + blocks * (kernel // 2)


@mistake("reach")
def always_three(blocks: int, kernel: int) -> int:
    """The reach counts every kernel as one of 3.

    How many more patches does a kernel of 7 cover?
    """
    return 1 + 2 * blocks


@mistake("attention_share")
def one_product(n: int, d: int) -> float:
    """Only one of the two n² products is counted: queries by keys, or weights by values.

    How many products does attention have in which n tokens are combined with n tokens?
    """
    return n * d * n / (12 * n * d**2 + n * d * n)


@mistake("attention_share")
def beside_the_linear(n: int, d: int) -> float:
    """The n² part is divided by the linear part; a share is divided by the whole.

    What is your result at n = 6 d, where both parts cost the same? What is one half of the whole?
    """
    return 2 * n**2 * d / (12 * n * d**2)


@mistake("attention_share")
def no_mlp(n: int, d: int) -> float:
    """Only the linear layers of attention are counted, 4 n d²; the two of the MLP are missing.

    Which linear layers does a block have besides `qkv` and `proj`? How wide are they?
    """
    return 2 * n**2 * d / (4 * n * d**2 + 2 * n**2 * d)


@mistake("attention_share")
def percent(n: int, d: int) -> float:
    """The share is in percent; it should be a number between 0 and 1.

    Which number stands for the whole, as a share?
    """
    return 100 * 2 * n**2 * d / (12 * n * d**2 + 2 * n**2 * d)


@mistake("attention_share")
def whole_numbers_only(n: int, d: int) -> int:
    """The share is rounded down to an integer, which is 0.

    What are 1 / 4 and 1 // 4?
    """
    return 2 * n**2 * d // (12 * n * d**2 + 2 * n**2 * d)
