"""Mistakes in the patch embedding: the kernel as a matrix, the convolution, and the grid."""

from typing import Any

from einops import rearrange
from torch import Tensor, nn

from vitral.lab.solutions.embedding import PatchEmbedding
from vitral.lab.solutions.patchify import patchify
from vitral.lab.station import mistake


def multiply(images: Tensor, patch_size: int, matrix: Tensor, bias: Tensor) -> Tensor:
    return patchify(images, patch_size) @ matrix + bias


class LinearEmbedding(PatchEmbedding):
    """A patch embedding by patches and an nn.Linear instead of a convolution."""

    def __init__(self, img_size: int, patch_size: int, in_channels: int, embed_dim: int):
        super().__init__(img_size, patch_size, in_channels, embed_dim)
        self.patch_size = patch_size
        self.proj = nn.Linear(in_channels * patch_size**2, embed_dim)  # type: ignore[assignment]  # that is the mistake

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(patchify(images, self.patch_size))


@mistake("by_matrix")
def matrix_reshaped(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The kernel becomes (c p p, d) by a reshape, which mixes the weights of different outputs; use a transpose.

    Which numbers of the kernel belong to one output, and are they still together in your matrix?
    """
    return multiply(images, weight.shape[-1], weight.reshape(weight[0].numel(), len(weight)), bias)


@mistake("by_matrix")
def channels_last(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Your matrix lists the three channels of a pixel together; your patches list one channel after the other.

    In which order do channel, row and column come in a patch, and in which order in your matrix?
    """
    return multiply(images, weight.shape[-1], rearrange(weight, "d c p q -> (p q c) d"), bias)


@mistake("by_matrix")
def flipped(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The kernel is flipped in both directions, as a convolution does in mathematics; PyTorch's does not flip it.

    Which pixel of a patch does nn.Conv2d multiply by weight[:, :, 0, 0]?
    """
    return multiply(images, weight.shape[-1], weight.flip(2, 3).flatten(1).T, bias)


@mistake("by_matrix")
def bias_forgotten(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`by_matrix` does not add the bias.

    What should the token of a patch of zeros be?
    """
    return patchify(images, weight.shape[-1]) @ weight.flatten(1).T


@mistake("PatchEmbedding.__init__")
def no_stride(self: Any, img_size: int, patch_size: int, in_channels: int, embed_dim: int) -> None:
    """The convolution moves by one pixel at a time, so that its windows overlap.

    By how many pixels must the window move so that every pixel is in one patch? What is the default of nn.Conv2d?
    """
    PatchEmbedding.__init__(self, img_size, patch_size, in_channels, embed_dim)
    self.proj = nn.Conv2d(in_channels, embed_dim, patch_size)


@mistake("PatchEmbedding.__init__")
def no_bias(self: Any, img_size: int, patch_size: int, in_channels: int, embed_dim: int) -> None:
    """The convolution has no bias; trained models have one there.

    What is added to the product, in the first line of the figure?
    """
    PatchEmbedding.__init__(self, img_size, patch_size, in_channels, embed_dim)
    self.proj = nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size, bias=False)


@mistake("PatchEmbedding")
def linear_layer(img_size: int, patch_size: int, in_channels: int, embed_dim: int) -> nn.Module:
    """`proj` is an nn.Linear on patches that you cut. The tokens are right, but its weight has two axes; that of
    trained models has four and would not load.

    Which layer has a weight of (d, c, p, p)?
    """
    return LinearEmbedding(img_size, patch_size, in_channels, embed_dim)


@mistake("PatchEmbedding.forward")
def map_not_turned(self: Any, images: Tensor) -> Tensor:
    """The result is (b, d, n) instead of (b, n, d): the last two axes are in the wrong order.

    Which axis should the transformer take as its sequence, and which one holds the numbers of a token?
    """
    return self.proj(images).flatten(2)


@mistake("PatchEmbedding.forward")
def map_reshaped(self: Any, images: Tensor) -> Tensor:
    """The feature map becomes (b, n, d) by a reshape, which mixes the numbers of all tokens; use a transpose.

    The numbers of one token are far apart in (b, d, gy, gx). Does a reshape bring them together?
    """
    features = self.proj(images)
    return features.reshape(len(images), -1, features.shape[1])


@mistake("PatchEmbedding.forward")
def columns_first(self: Any, images: Tensor) -> Tensor:
    """The sequence runs down the columns of the feature map; the patches of station 1 run along its rows.

    Which position of the feature map comes second: the one to the right of the first, or the one below it?
    """
    return rearrange(self.proj(images), "b d gy gx -> b (gx gy) d")


@mistake("PatchEmbedding.forward")
def all_joined(self: Any, images: Tensor) -> Tensor:
    """All axes after the batch are joined, so that each image becomes one long row of numbers.

    From which axis on should flatten join, if d must stay an axis of its own?
    """
    return self.proj(images).flatten(1)


@mistake("PatchEmbedding.__init__")
def number_of_patches(self: Any, img_size: int, patch_size: int, in_channels: int, embed_dim: int) -> None:
    """`grid` is the total number of patches; it should be a tuple of rows and columns.

    What do you need to turn the sequence into a feature map again: its length, or its two sides?
    """
    PatchEmbedding.__init__(self, img_size, patch_size, in_channels, embed_dim)
    self.grid = (img_size // patch_size) ** 2


@mistake("PatchEmbedding.__init__")
def size_of_patches(self: Any, img_size: int, patch_size: int, in_channels: int, embed_dim: int) -> None:
    """`grid` holds the sides of a patch in pixels; it should hold the number of rows and columns of patches.

    An image has 48 x 48 pixels, a patch 8 x 8. What is the grid?
    """
    PatchEmbedding.__init__(self, img_size, patch_size, in_channels, embed_dim)
    self.grid = (patch_size, patch_size)


@mistake("PatchEmbedding.__init__")
def divided(self: Any, img_size: int, patch_size: int, in_channels: int, embed_dim: int) -> None:
    """`grid` holds floats, such as 6.0, since / always returns a float. Counts should be integers.

    Which operator divides two integers and returns an integer?
    """
    PatchEmbedding.__init__(self, img_size, patch_size, in_channels, embed_dim)
    self.grid = (img_size / patch_size, img_size / patch_size)


@mistake("PatchEmbedding.__init__")
def grid_as_list(self: Any, img_size: int, patch_size: int, in_channels: int, embed_dim: int) -> None:
    """`grid` has the right two numbers, but is a list; it should be a tuple, which nobody can change by accident.

    Which brackets make a tuple?
    """
    PatchEmbedding.__init__(self, img_size, patch_size, in_channels, embed_dim)
    self.grid = [img_size // patch_size, img_size // patch_size]
