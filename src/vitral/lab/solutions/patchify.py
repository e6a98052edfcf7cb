"""Station 1: an image becomes a sequence of patches.

    image (c, y, x)              sequence (n, c p p)

    ┌───┬───┬───┐                patch 0:  all red numbers row by row, then green, then blue
    │ 0 │ 1 │ 2 │                patch 1
    ├───┼───┼───┤   ────────>    patch 2
    │ 3 │ 4 │ 5 │                ...
    └───┴───┴───┘                patch 5

A transformer reads a sequence, so the image is cut into squares of p x p pixels, read like text: from left to right,
then the next row. Each square is written as one line of numbers: channel by channel, within a channel row by row.
No number is lost or changed, they only move. Let sizes and types come from the input: the lab's images are float64
and not square.

Two ways to move them. `x.reshape(...)` splits an axis in two, or joins neighbours, and `x.permute(...)` changes the
order of axes; joining is only right for axes that stand beside each other. Or einops, in words:
`rearrange(x, "b (rows of_row) -> b rows of_row", of_row=4)` splits, and names on the right may stand in any order.

Before you write: an image of 48 x 48 pixels is 36 patches of 8 x 8. How many patches of 4 x 4 is it?
    a  72        b  144        c  576
"""

from einops import rearrange
from torch import Tensor

prediction = ""  # "a", "b" or "c"


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Images (batch, channels, height, width) -> patches (batch, number of patches, channels x patch_size²)."""
    # Yours: split height and width into (rows of patches, rows in a patch), then move the axes and join them.
    return rearrange(images, "b c (gy p) (gx q) -> b (gy gx) (c p q)", p=patch_size, q=patch_size)
