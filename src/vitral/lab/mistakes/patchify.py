"""How an image is cut wrongly."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vitral.lab.station import Mistake


def cut(pattern: str):
    """A `patchify` by another pattern."""

    def patchify(images: Tensor, patch_size: int) -> Tensor:
        return rearrange(images, pattern, p=patch_size, q=patch_size)

    return {"patchify": patchify}


def reshaped(images: Tensor, patch_size: int) -> Tensor:
    return images.reshape(len(images), -1, images.shape[1] * patch_size**2)


def unfolded_kept(images: Tensor, patch_size: int) -> Tensor:
    return F.unfold(images, patch_size, stride=patch_size)


def unfolded_reshaped(images: Tensor, patch_size: int) -> Tensor:
    columns = F.unfold(images, patch_size, stride=patch_size)
    return columns.reshape(len(images), columns.shape[2], columns.shape[1])


def overlapping(images: Tensor, patch_size: int) -> Tensor:
    return F.unfold(images, patch_size).mT


def strips(images: Tensor, patch_size: int) -> Tensor:
    b, c = images.shape[:2]
    return images.reshape(b, c, -1, patch_size**2).transpose(1, 2).flatten(2)


def grids_swapped(images: Tensor, patch_size: int) -> Tensor:
    b, c, y, x = images.shape
    parts = images.reshape(b, c, x // patch_size, patch_size, y // patch_size, patch_size)
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def first_image(images: Tensor, patch_size: int) -> Tensor:
    one = rearrange(images[:1], "b c (gy p) (gx q) -> b (gy gx) (c p q)", p=patch_size, q=patch_size)
    return one.expand(len(images), -1, -1)


def scaled(images: Tensor, patch_size: int) -> Tensor:
    return rearrange(images / 255, "b c (gy p) (gx q) -> b (gy gx) (c p q)", p=patch_size, q=patch_size)


def colours_turned(images: Tensor, patch_size: int) -> Tensor:
    return rearrange(images.flip(1), "b c (gy p) (gx q) -> b (gy gx) (c p q)", p=patch_size, q=patch_size)


def upside_down(images: Tensor, patch_size: int) -> Tensor:
    parts = rearrange(images, "b c (gy p) (gx q) -> b (gy gx) c p q", p=patch_size, q=patch_size)
    return parts.flip(3).flatten(2)


def no_batch(images: Tensor, patch_size: int) -> Tensor:
    return rearrange(images, "b c (gy p) (gx q) -> (b gy gx) (c p q)", p=patch_size, q=patch_size)


columns_first = Mistake(
    "The patches run down the columns of the image, where they should run along its rows.",
    "Which patch comes second in your sequence: the one beside the first, or the one below it?",
    cut("b c (gy p) (gx q) -> b (gx gy) (c p q)"),
)
channels_last = Mistake(
    "Within a patch the three colours of a pixel stand together; each colour should be written out before the next.",
    "What are the first two numbers of a patch: two pixels of red, or the red and the green of one pixel?",
    cut("b c (gy p) (gx q) -> b (gy gx) (p q c)"),
)
transposed_patches = Mistake(
    "Each patch is written column by column, where it should be row by row: the patches stand right, but lie on their "
    "sides.",
    "If you drew one of your patches again, which way would its rows run?",
    cut("b c (gy p) (gx q) -> b (gy gx) (c q p)"),
)
colours_apart = Mistake(
    "Colours stand before patches and were joined to the wrong axis: each colour was made patches of its own.",
    "How many patches does an image have, and how many numbers each? Does either depend on the other's channels?",
    cut("b c (gy p) (gx q) -> b (c gy gx) (p q)"),
)
batch_joined = Mistake(
    "The images of a batch were joined to one long sequence.",
    "Two images go in. How many sequences should come out?",
    {"patchify": no_batch},
)
scattered = Mistake(
    "Places in the patch and places in the grid have changed roles: each of your patches has pixels from all over the "
    "image, a patch's distance apart.",
    "Of height = (a b), which moves faster along the image: a or b? Which of them are the rows in a patch?",
    cut("b c (p gy) (q gx) -> b (gy gx) (c p q)"),
)
only_reshaped = Mistake(
    "The image was reshaped in one go: your patches are stretches of whole rows, not squares.",
    "Numbers that are neighbours in memory stay neighbours in a reshape. Is the pixel below near in memory?",
    {"patchify": reshaped},
)
row_strips = Mistake(
    "Rows were not split: each of your patches is a stretch of one or a few rows, as long as p x p, not a square.",
    "How many rows does one of your patches touch?",
    {"patchify": strips},
)
unfold_as_it_comes = Mistake(
    "F.unfold gives (b, numbers of a patch, patches): the last two axes are the other way round.",
    "Which axis should the transformer see as its sequence?",
    {"patchify": unfolded_kept},
)
unfold_reshaped = Mistake(
    "F.unfold's last two axes were swapped by a reshape, which tears patches apart; swapping axes is a transpose.",
    "Does reshape ever change the order in which numbers lie in memory?",
    {"patchify": unfolded_reshaped},
)
no_stride = Mistake(
    "The patches overlap: the window moved by a pixel at a time.",
    "By how many pixels must the window move so that every pixel is in one patch?",
    {"patchify": overlapping},
)
sides_swapped = Mistake(
    "Rows and columns of patches were counted from the wrong sides: height is before width. It would not show in a "
    "square image.",
    "Which axis of (batch, channels, height, width) holds the rows?",
    {"patchify": grids_swapped},
)
always_the_first = Mistake(
    "Every image of the batch came out as the first.",
    "Where in your code does the batch's axis go?",
    {"patchify": first_image},
)
brightness_changed = Mistake(
    "The numbers were divided by 255: patches only move numbers, and images that are given are ready.",
    "Is there one number in the patches that is not in the image?",
    {"patchify": scaled},
)
bottom_up = Mistake(
    "The patches begin at the last row of patches and go up.",
    "Where in the image is your first patch?",
    {
        "patchify": lambda images, patch_size: torch.cat(
            rearrange(images, "b c (gy p) (gx q) -> gy b gx (c p q)", p=patch_size, q=patch_size).flip(0).unbind(),
            dim=1,
        )
    },
)
blue_first = Mistake(
    "The channels are in the other order, the last one first. They should stay as they are given.",
    "Which channel of the image do the first numbers of your patch come from?",
    {"patchify": colours_turned},
)
rows_from_below = Mistake(
    "The patches stand in the right places, but each is upside down: its last row comes first.",
    "Which row of a patch do its first numbers come from?",
    {"patchify": upside_down},
)
