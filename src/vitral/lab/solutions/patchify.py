"""Station 1: an image becomes a sequence of patches.

    image (c, y, x)              sequence (n, c p p)

    ┌───┬───┬───┐                patch 0:  all red numbers row by row, then green, then blue
    │ 0 │ 1 │ 2 │                patch 1
    ├───┼───┼───┤   ────────>    patch 2
    │ 3 │ 4 │ 5 │                ...
    └───┴───┴───┘                patch 5

A transformer takes a sequence. So the image is cut into patches of p x p pixels, which are ordered like text: from left
to right, then the next row. Each patch becomes one row of numbers: channel by channel, and row by row within a channel.
No number is lost or changed; numbers only move. Take sizes and types from the input: the lab's images are float64 and
not square.

There are two ways to move them. One is `x.reshape(...)`, which splits an axis in two or joins neighbouring axes, with
`x.permute(...)`, which reorders axes. The other is einops:
`rearrange(x, "b (rows of_row) -> b rows of_row", of_row=4)` splits an axis, and the names on the right may have any
order.

Before you write: an image of 48 x 48 pixels has 36 patches of 8 x 8. How many patches of 4 x 4 does it have?
    a  72        b  144        c  576
"""

from einops import rearrange
from torch import Tensor

prediction = ""  # "a", "b" or "c"


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Images (batch, channels, height, width) -> patches (batch, number of patches, channels x patch_size²)."""
    # Yours: split height and width into (patches, pixels in a patch), then reorder the axes and join them.
    return rearrange(images, "b c (gy p) (gx q) -> b (gy gx) (c p q)", p=patch_size, q=patch_size)
