"""How patches are mapped wrongly."""

from collections.abc import Callable
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from vitral.lab.solutions.embedding import PatchEmbedding
from vitral.lab.solutions.patchify import patchify
from vitral.lab.station import Mistake


def by_kernel(turned: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """A `by_matrix` that makes another matrix (c p p, d) of the kernel."""

    def by_matrix(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return patchify(images, weight.shape[-1]) @ turned(weight) + bias

    return {"by_matrix": by_matrix}


def without_bias(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return patchify(images, weight.shape[-1]) @ weight.flatten(1).T


def reading(sequence: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """A module that makes another sequence of its map (b, d, gy, gx)."""

    class Reading(PatchEmbedding):
        def forward(self, images: Tensor) -> Tensor:
            return sequence(self.proj(images))

    return {"PatchEmbedding": Reading}


def convolving(**settings: Any) -> dict[str, Any]:
    """A module whose convolution has other settings."""

    class Convolving(PatchEmbedding):
        def __init__(self, img_size: int, patch_size: int, in_channels: int, embed_dim: int):
            super().__init__(img_size, patch_size, in_channels, embed_dim)
            self.proj = nn.Conv2d(in_channels, embed_dim, patch_size, **{"stride": patch_size, **settings})

    return {"PatchEmbedding": Convolving}


def counting(grid: Callable[[int, int], Any]) -> dict[str, Any]:
    """A module with another grid, made of the sizes of image and patch."""

    class Counting(PatchEmbedding):
        def __init__(self, img_size: int, patch_size: int, in_channels: int, embed_dim: int):
            super().__init__(img_size, patch_size, in_channels, embed_dim)
            self.grid = grid(img_size, patch_size)

    return {"PatchEmbedding": Counting}


class Linear(PatchEmbedding):
    """Patches cut by hand, then a linear map."""

    def __init__(self, img_size: int, patch_size: int, in_channels: int, embed_dim: int):
        super().__init__(img_size, patch_size, in_channels, embed_dim)
        self.patch_size = patch_size
        self.proj = nn.Linear(in_channels * patch_size**2, embed_dim)  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(patchify(images, self.patch_size))


matrix_reshaped = Mistake(
    "The kernel was brought to (c p p, d) by a reshape, which tears its rows apart; swapping axes is a transpose.",
    "Which numbers of the kernel belong to one output, and do they still stand together in your matrix?",
    by_kernel(lambda weight: weight.reshape(weight[0].numel(), len(weight))),
)
channels_last = Mistake(
    "The kernel was written out with the three colours of a pixel together; your patches hold one colour after the "
    "other.",
    "In which order do channel, row and column stand in a patch, and in which order in your matrix?",
    by_kernel(lambda weight: rearrange(weight, "d c p q -> (p q c) d")),
)
flipped = Mistake(
    "The kernel was turned upside down and left to right, as a convolution does in mathematics; PyTorch's does not.",
    "Which pixel of a patch does nn.Conv2d multiply by weight[:, :, 0, 0]?",
    by_kernel(lambda weight: weight.flip(2, 3).flatten(1).T),
)
bias_forgotten = Mistake(
    "`by_matrix` leaves out the bias.",
    "What token should a patch of zeros give?",
    {"by_matrix": without_bias},
)
no_stride = Mistake(
    "The convolution moves by one pixel at a time, so that its windows overlap.",
    "By how many pixels must the window move so that every pixel is in one patch? What does nn.Conv2d do if not told?",
    convolving(stride=1),
)
no_bias = Mistake(
    "The convolution has no bias: trained models keep one there.",
    "What is added to the product, in the first line of the figure?",
    convolving(bias=False),
)
linear_map = Mistake(
    "`proj` is an nn.Linear on patches that you cut. It gives the same tokens, but its weight has two axes, and "
    "trained ones have four: they would not fit.",
    "Which layer has a weight of (d, c, p, p)?",
    {"PatchEmbedding": Linear},
)
map_not_turned = Mistake(
    "The map was made a sequence of its outputs, (b, d, n): the last two axes are the other way round.",
    "Which axis should the transformer see as its sequence, and which one holds a token's numbers?",
    reading(lambda image: image.flatten(2)),
)
map_reshaped = Mistake(
    "The map was brought to (b, n, d) by a reshape, which mixes the numbers of all tokens; swapping axes is "
    "a transpose.",
    "The numbers of one token lie far apart in (b, d, gy, gx). Does a reshape bring them together?",
    reading(lambda image: image.reshape(len(image), -1, image.shape[1])),
)
columns_first = Mistake(
    "The sequence runs down the columns of the map; the patches of station 1 run along its rows.",
    "Which place of the map comes second in your sequence: the one beside the first, or the one below it?",
    reading(lambda image: rearrange(image, "b d gy gx -> b (gx gy) d")),
)
all_joined = Mistake(
    "All axes after the batch's were joined, so that each image became one long row of numbers.",
    "From which axis on should flatten join, if d must stay an axis of its own?",
    reading(lambda image: image.flatten(1)),
)
number_of_patches = Mistake(
    "`grid` is how many patches there are in all; it should be a tuple of rows and columns.",
    "What will you need to make a map of a sequence again: its length, or its sides?",
    counting(lambda image, patch: (image // patch) ** 2),
)
size_of_patches = Mistake(
    "`grid` holds the sides of a patch in pixels; it should hold how many patches there are each way.",
    "An image of 48 x 48 pixels, patches of 8 x 8. What is the grid?",
    counting(lambda image, patch: (patch, patch)),
)
divided = Mistake(
    "`grid` holds fractions, such as 6.0, since / always gives one. Counts should be whole numbers.",
    "Which sign divides whole numbers so that a whole number comes out?",
    counting(lambda image, patch: (image / patch, image / patch)),
)
grid_as_list = Mistake(
    "`grid` has the right two numbers, but is a list; a tuple is asked for, which nobody can change by accident.",
    "Which brackets make a tuple?",
    counting(lambda image, patch: [image // patch, image // patch]),
)
