"""The tests of station 2: `by_matrix` and `PatchEmbedding`."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.recorder import Recorder, flatten
from vitral.lab.replacements import copy_weights
from vitral.lab.station import Pair, RightPrediction, Station, law

CHANNELS, WIDTH = 3, 5


def draw_inputs(recorder: Recorder) -> tuple[Tensor, Tensor, Tensor]:
    """Return images that are not square, a kernel and a bias."""
    patch, rows, columns = recorder.integer(2, 4), recorder.integer(2, 3), recorder.integer(4, 5)
    images = recorder.normal(2, CHANNELS, rows * patch, columns * patch)
    return images, recorder.normal(WIDTH, CHANNELS, patch, patch), recorder.normal(WIDTH)


def build_module(recorder: Recorder) -> tuple[Any, Tensor, int]:
    """Return a module, images for it, and its patch size."""
    patch, side = recorder.integer(2, 3), recorder.integer(4, 5)
    module = recorder.build("PatchEmbedding", side * patch, patch, CHANNELS, WIDTH)
    return module, recorder.normal(2, CHANNELS, side * patch, side * patch), patch


def describe_grid(module: nn.Module) -> str:
    """Return the module's grid as text, in which 2 and 2.0 are not the same."""
    grid = getattr(module, "grid", "missing")
    return str(tuple(grid) if isinstance(grid, tuple) else grid)


def observe(recorder: Recorder) -> None:
    recorder.call("by_matrix", *draw_inputs(recorder))
    recorder.call("by_matrix", *(recorder.normal(*shape) for shape in ((1, 1, 4, 4), (4, 1, 2, 2), (4,))))
    module, images, _ = build_module(recorder)
    recorder.call(module, images)
    recorder.record("The grid of PatchEmbedding", describe_grid(module))
    as_wide_as_long = recorder.build("PatchEmbedding", 4, 2, 1, 4)
    recorder.call(as_wide_as_long, recorder.normal(3, 1, 4, 4))


@law()
def bias_alone(recorder: Recorder) -> Pair:
    """For an image of zeros, every token is the bias."""
    images, kernel, bias = draw_inputs(recorder)
    tokens = recorder.call("by_matrix", torch.zeros_like(images), kernel, bias)
    return tokens, bias.expand(2, images[0, 0].numel() // kernel[0, 0].numel(), WIDTH)


@law()
def grid_size(recorder: Recorder) -> Pair:
    """`grid` is the number of rows and columns of patches: a tuple of two integers."""
    module, images, patch = build_module(recorder)
    whole = [number for number in flatten(getattr(module, "grid", ())) if isinstance(number, int)]
    return torch.tensor(whole), torch.tensor(images.shape[-2:]) // patch


@law()
def one_pixel(recorder: Recorder) -> Pair:
    """A kernel that is 1 in one place and 0 elsewhere selects one pixel of every patch: the one at that channel, row
    and column.
    """
    images, kernel, _ = draw_inputs(recorder)
    patch = kernel.shape[-1]
    channel, row, column = recorder.integer(0, CHANNELS - 1), patch - 1, recorder.integer(0, patch - 2)
    single = torch.zeros_like(kernel[:1])
    single[0, channel, row, column] = 1
    tokens = recorder.call("by_matrix", images, single, torch.zeros_like(single[:, 0, 0, 0]))
    return tokens, images[:, channel, row::patch, column::patch].flatten(1)[..., None]


@law()
def linear(recorder: Recorder) -> Pair:
    """With an image twice as bright, each token is twice as far from that of an image of zeros."""
    module, images, _ = build_module(recorder)
    dark, plain, bright = (recorder.call(module, factor * images) for factor in (0, 1, 2))
    return bright - plain, plain - dark


@law()
def own_patch_alone(recorder: Recorder) -> Pair:
    """A change in the last patch changes the last token only."""
    module, images, patch = build_module(recorder)
    changed = images.clone()
    changed[..., -patch:, -patch:] = recorder.normal(patch, patch)
    return recorder.call(module, images)[:, :-1], recorder.call(module, changed)[:, :-1]


@law()
def both_ways(recorder: Recorder) -> Pair:
    """With the same weight and bias, the convolution and the matrix product return the same tokens."""
    module, images, _ = build_module(recorder)
    weight, bias = module.proj.weight.detach(), module.proj.bias.detach()
    return recorder.call(module, images), recorder.call("by_matrix", images, weight, bias)


def insert(model: Any, answer: Any) -> nn.Module:
    ours = model.patch_embed
    patch, rows = ours.proj.kernel_size[0], ours.grid[0]
    mine = answer.PatchEmbedding(rows * patch, patch, ours.proj.in_channels, ours.proj.out_channels)
    model.patch_embed = copy_weights(mine, ours)
    return model


embedding = Station(
    number=2,
    title="The patch embedding is a convolution",
    minutes=20,
    difficulty=2,
    prediction=RightPrediction(
        "c", "3 x 16 x 16 = 768: in a ViT of this size a token has as many numbers as its patch, but other ones."
    ),
    hints=(
        "Write down the shapes: patches (b, n, c p p), kernel (d, c, p, p), tokens (b, n, d). What must happen to the "
        "kernel before the two can be multiplied? The feature map of the convolution is (b, d, gy, gx): which of its "
        "axes become one, and where should d be?",
        "The kernel as a matrix is weight.flatten(1), of shape (d, c p p): each row holds the weights of one output, "
        "in the order of your patches. Transpose it with .T. In the module, nn.Conv2d moves its window by `stride` "
        "pixels; flatten(2) joins the last two axes of the feature map, then two axes are swapped.",
        "The function is one line: your patches @ the transposed matrix + bias. In the module, kernel_size and stride "
        "are both the patch size; in forward (b, d, gy, gx) becomes (b, d, n), and then (b, n, d). Each number of the "
        "grid says how many patches fit along that side, as an integer.",
    ),
    observe=observe,
    insert=insert,
)
