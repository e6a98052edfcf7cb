"""Mistakes in cutting an image into patches."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vitral.lab.solutions.patchify import patchify
from vitral.lab.station import mistake


def cut(images: Tensor, patch_size: int, pattern: str) -> Tensor:
    return rearrange(images, pattern, p=patch_size, q=patch_size)


@mistake("patchify")
def columns_first(images: Tensor, patch_size: int) -> Tensor:
    """The patches run down the columns of the image; they should run along its rows.

    Which patch comes second in your sequence: the one to the right of the first, or the one below it?
    """
    return cut(images, patch_size, "b c (gy p) (gx q) -> b (gx gy) (c p q)")


@mistake("patchify")
def channels_last(images: Tensor, patch_size: int) -> Tensor:
    """Each patch lists the three channels of a pixel together; it should list one whole channel after the other.

    What are the first two numbers of a patch: two red pixels, or the red and the green of one pixel?
    """
    return cut(images, patch_size, "b c (gy p) (gx q) -> b (gy gx) (p q c)")


@mistake("patchify")
def transposed_patches(images: Tensor, patch_size: int) -> Tensor:
    """The patches are in the right order, but each lists its pixels column by column; it should go row by row.

    If you drew one of your patches as an image again, which way would its rows run?
    """
    return cut(images, patch_size, "b c (gy p) (gx q) -> b (gy gx) (c q p)")


@mistake("patchify")
def colours_apart(images: Tensor, patch_size: int) -> Tensor:
    """The channels are joined to the wrong axis, so that each channel becomes patches of its own.

    How many patches does an image have, and how many numbers has each? Which of the two depends on the channels?
    """
    return cut(images, patch_size, "b c (gy p) (gx q) -> b (c gy gx) (p q)")


@mistake("patchify")
def batch_joined(images: Tensor, patch_size: int) -> Tensor:
    """The images of a batch are joined into one long sequence.

    Two images go in. How many sequences should come out?
    """
    return cut(images, patch_size, "b c (gy p) (gx q) -> (b gy gx) (c p q)")


@mistake("patchify")
def scattered(images: Tensor, patch_size: int) -> Tensor:
    """The position in the patch and the position in the grid are swapped: each of your patches has pixels from all
    over the image, one patch apart.

    In height = (a b), which one changes faster down the image, a or b? Which of them counts the rows in a patch?
    """
    return cut(images, patch_size, "b c (p gy) (q gx) -> b (gy gx) (c p q)")


@mistake("patchify")
def only_reshaped(images: Tensor, patch_size: int) -> Tensor:
    """The image is only reshaped: your patches are pieces of whole rows, not squares.

    A reshape keeps numbers that are neighbours in memory together. Is the pixel below a neighbour in memory?
    """
    return images.reshape(len(images), -1, images.shape[1] * patch_size**2)


@mistake("patchify")
def row_strips(images: Tensor, patch_size: int) -> Tensor:
    """The rows are not split: each of your patches is a strip of p x p pixels along a row, not a square.

    How many rows of the image does one of your patches touch?
    """
    b, c = images.shape[:2]
    return images.reshape(b, c, -1, patch_size**2).transpose(1, 2).flatten(2)


@mistake("patchify")
def unfold_as_it_comes(images: Tensor, patch_size: int) -> Tensor:
    """F.unfold returns (b, numbers of a patch, patches): the last two axes are in the wrong order.

    Which axis should the transformer take as its sequence?
    """
    return F.unfold(images, patch_size, stride=patch_size)


@mistake("patchify")
def unfold_reshaped(images: Tensor, patch_size: int) -> Tensor:
    """The last two axes of F.unfold are swapped by a reshape, which tears patches apart; use a transpose.

    Does a reshape ever change the order of the numbers in memory?
    """
    columns = F.unfold(images, patch_size, stride=patch_size)
    return columns.reshape(len(images), columns.shape[2], columns.shape[1])


@mistake("patchify")
def no_stride(images: Tensor, patch_size: int) -> Tensor:
    """The patches overlap: the window moves by one pixel at a time.

    By how many pixels must the window move so that every pixel is in exactly one patch?
    """
    return F.unfold(images, patch_size).mT


@mistake("patchify")
def sides_swapped(images: Tensor, patch_size: int) -> Tensor:
    """Rows and columns of patches are counted along the wrong sides: height comes before width. A square image would
    not show it.

    Which axis of (batch, channels, height, width) holds the rows?
    """
    b, c, y, x = images.shape
    parts = images.reshape(b, c, x // patch_size, patch_size, y // patch_size, patch_size)
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


@mistake("patchify")
def always_the_first(images: Tensor, patch_size: int) -> Tensor:
    """Every image of the batch comes out as the first image.

    What does your code do with the axis of the batch?
    """
    return patchify(images[:1], patch_size).expand(len(images), -1, -1)


@mistake("patchify")
def brightness_changed(images: Tensor, patch_size: int) -> Tensor:
    """The numbers are divided by 255. `patchify` only moves numbers; the images are normalised already.

    Is every number of your patches also in the image?
    """
    return patchify(images / 255, patch_size)


@mistake("patchify")
def bottom_up(images: Tensor, patch_size: int) -> Tensor:
    """The sequence begins with the bottom row of patches and goes up.

    Where in the image is your first patch?
    """
    rows = rearrange(images, "b c (gy p) (gx q) -> gy b gx (c p q)", p=patch_size, q=patch_size)
    return torch.cat(rows.flip(0).unbind(), dim=1)


@mistake("patchify")
def blue_first(images: Tensor, patch_size: int) -> Tensor:
    """The channels are in reverse order; they should keep their order.

    From which channel of the image do the first numbers of your patch come?
    """
    return patchify(images.flip(1), patch_size)


@mistake("patchify")
def rows_from_below(images: Tensor, patch_size: int) -> Tensor:
    """The patches are in the right order, but each is upside down: its last row comes first.

    From which row of a patch do its first numbers come?
    """
    return cut(images, patch_size, "b c (gy p) (gx q) -> b (gy gx) c p q").flip(3).flatten(2)
