"""Station 2: `by_matrix` and `PatchEmbedding`."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.graft import with_weights
from vitral.lab.inspection import Inspection, flat
from vitral.lab.station import Law, Pair, Prediction, Station

CHANNELS, WIDTH = 3, 5


def drawn(inspection: Inspection) -> tuple[Tensor, Tensor, Tensor]:
    """Images that are not square, a kernel and a bias."""
    patch, rows, columns = inspection.integer(2, 4), inspection.integer(2, 3), inspection.integer(4, 5)
    images = inspection.normal(2, CHANNELS, rows * patch, columns * patch)
    return images, inspection.normal(WIDTH, CHANNELS, patch, patch), inspection.normal(WIDTH)


def built(inspection: Inspection) -> tuple[Any, Tensor, int]:
    """A module, images that it takes, and its patch size."""
    patch, side = inspection.integer(2, 3), inspection.integer(4, 5)
    module = inspection.build("PatchEmbedding", side * patch, patch, CHANNELS, WIDTH)
    return module, inspection.normal(2, CHANNELS, side * patch, side * patch), patch


def grid_of(module: nn.Module) -> str:
    """What the module says its grid is, in words: 2 and 2.0 are not the same there."""
    grid = getattr(module, "grid", "missing")
    return str(tuple(grid) if isinstance(grid, tuple) else grid)


def observe(inspection: Inspection) -> None:
    inspection.ask("by_matrix", *drawn(inspection))
    inspection.ask("by_matrix", *(inspection.normal(*shape) for shape in ((1, 1, 4, 4), (4, 1, 2, 2), (4,))))
    module, images, _ = built(inspection)
    inspection.ask(module, images)
    inspection.note("grid of PatchEmbedding", grid_of(module))
    as_many_as_wide = inspection.build("PatchEmbedding", 4, 2, 1, 4)
    inspection.ask(as_many_as_wide, inspection.normal(3, 1, 4, 4))


def bias_alone(inspection: Inspection) -> Pair:
    images, kernel, bias = drawn(inspection)
    tokens = inspection.ask("by_matrix", torch.zeros_like(images), kernel, bias)
    return tokens, bias.expand(2, images[0, 0].numel() // kernel[0, 0].numel(), WIDTH)


def one_pixel(inspection: Inspection) -> Pair:
    images, kernel, _ = drawn(inspection)
    patch = kernel.shape[-1]
    channel, row, column = inspection.integer(0, CHANNELS - 1), patch - 1, inspection.integer(0, patch - 2)
    single = torch.zeros_like(kernel[:1])
    single[0, channel, row, column] = 1
    tokens = inspection.ask("by_matrix", images, single, torch.zeros_like(single[:, 0, 0, 0]))
    return tokens, images[:, channel, row::patch, column::patch].flatten(1)[..., None]


def counted(inspection: Inspection) -> Pair:
    module, images, patch = built(inspection)
    whole = [number for number in flat(getattr(module, "grid", ())) if isinstance(number, int)]
    return torch.tensor(whole), torch.tensor(images.shape[-2:]) // patch


def linear(inspection: Inspection) -> Pair:
    module, images, _ = built(inspection)
    dark, plain, bright = (inspection.ask(module, factor * images) for factor in (0, 1, 2))
    return bright - plain, plain - dark


def own_patch_alone(inspection: Inspection) -> Pair:
    module, images, patch = built(inspection)
    changed = images.clone()
    changed[..., -patch:, -patch:] = inspection.normal(patch, patch)
    return inspection.ask(module, images)[:, :-1], inspection.ask(module, changed)[:, :-1]


def both_ways(inspection: Inspection) -> Pair:
    module, images, _ = built(inspection)
    weight, bias = module.proj.weight.detach(), module.proj.bias.detach()
    return inspection.ask(module, images), inspection.ask("by_matrix", images, weight, bias)


def graft(model: Any, answer: Any) -> nn.Module:
    ours = model.patch_embed
    patch, rows = ours.proj.kernel_size[0], ours.grid[0]
    mine = answer.PatchEmbedding(rows * patch, patch, ours.proj.in_channels, ours.proj.out_channels)
    model.patch_embed = with_weights(mine, ours)
    return model


embedding = Station(
    name="embedding",
    number=2,
    title="The patch embedding is a convolution",
    minutes=20,
    difficulty=2,
    prediction=Prediction(
        "c", "3 x 16 x 16 = 768: in a ViT of this size a token holds as many numbers as its patch, only other ones."
    ),
    hints=(
        "Write down the shapes: patches (b, n, c p p), kernel (d, c, p, p), and tokens (b, n, d) that should come out. "
        "What must happen to the kernel before the two can be multiplied? And the map of the convolution is "
        "(b, d, gy, gx): which of its axes become one, and where should d stand?",
        "The kernel as a matrix is weight.flatten(1), of shape (d, c p p): each row holds the numbers of one output, "
        "in the order of your patches. Turn it round with .T. In the module, nn.Conv2d moves its window by `stride` "
        "pixels; the map's last two axes are joined with flatten(2), then two axes change places.",
        "The first is one line: your patches @ the turned matrix + bias. In the module kernel_size and stride are both "
        "the patch size; in forward (b, d, gy, gx) becomes (b, d, n), and that (b, n, d). Each side of the grid is how "
        "often a patch fits into the image, a whole number.",
    ),
    observe=observe,
    laws=(
        Law("An image of zeros gives the bias, at every patch.", bias_alone),
        Law("`grid` says how many rows and columns of patches there are: a tuple of two whole numbers.", counted),
        Law(
            "A kernel that is 1 in one place and 0 elsewhere picks one pixel of every patch: of that channel, row and "
            "column.",
            one_pixel,
        ),
        Law("An image twice as bright moves each token twice as far from what an image of zeros gives.", linear),
        Law("Another last patch leaves all tokens but the last as they are.", own_patch_alone),
        Law("The convolution and the matrix product, of the same weight and bias, give the same tokens.", both_ways),
    ),
    graft=graft,
)
