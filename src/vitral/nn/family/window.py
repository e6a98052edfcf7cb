"""Attention in windows of the grid of patches: O(N) where attention over all tokens is O(N²).

Liu et al. 2021, "Swin Transformer", §3.2.

Axes:  b batch   w windows   h heads   y x rows, columns   n tokens of a window   d width
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitral.nn.attention import Attention, attend
from vitral.nn.family.relative import displacement_index

Side = tuple[int, int]
HIDDEN = -100.0  # added to the logits of hidden tokens, as in every published Swin


def cut_windows(x: Float[Tensor, "b y x d"], window: Side) -> Float[Tensor, "bw n d"]:
    return rearrange(x, "b (y wy) (x wx) d -> (b y x) (wy wx) d", wy=window[0], wx=window[1])


def join_windows(tokens: Float[Tensor, "bw n d"], window: Side, rows: int, columns: int) -> Float[Tensor, "b y x d"]:
    y, x = rows // window[0], columns // window[1]
    return rearrange(tokens, "(b y x) (wy wx) d -> b (y wy) (x wx) d", y=y, x=x, wy=window[0])


def same_region(rows: int, columns: int, window: Side, shift: Side) -> Bool[Tensor, "w n n"]:
    """Which tokens of a window attend to each other after the grid was rolled: those that were neighbours before.

    What leaves at the top and at the left comes back at the bottom and at the right, as a region of its own.
    """
    region = torch.zeros(1, rows, columns, 1)
    for axis, step in ((1, shift[0]), (2, shift[1])):
        if step:
            region.narrow(axis, region.shape[axis] - step, step).add_(axis)  # 1 below, 2 at the right, 3 in the corner
    own = cut_windows(region, window)
    return own == own.mT


class ShiftedWindows(Attention):
    """Attention in windows of a grid that is first padded to whole windows, then rolled by `shift`; and back.

    A learned bias for each displacement is added; the table is for windows of `window_size`, so that a smaller window
    leaves some of its rows unused. Padding comes before the roll, so that no window mixes opposite edges. A grid with a
    side of no more than a window has one window along it, and is not rolled along it. Padding is attended to by its
    window's tokens, as in every published Swin.
    """

    index: Tensor

    def __init__(self, embed_dim: int, num_heads: int, window_size: int = 7, shift: int = 0):
        super().__init__(embed_dim, num_heads)
        self.window_size, self.shift = window_size, shift
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        self.register_buffer("index", displacement_index((window_size, window_size)), persistent=False)

    def init_weights(self) -> None:
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def bias(self, window: Side) -> Float[Tensor, "h n n"]:
        whole = (self.window_size, self.window_size)
        index = self.index if window == whole else displacement_index(window, whole)
        return self.relative_position_bias_table[index].permute(2, 0, 1)

    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y x d"]:  # type: ignore[override]  # of a map
        rows, columns = x.shape[1:3]
        window = min(self.window_size, rows), min(self.window_size, columns)
        shift = self.shift if rows > window[0] else 0, self.shift if columns > window[1] else 0
        below, right = -rows % window[0], -columns % window[1]
        x = F.pad(x, (0, 0, 0, right, 0, below)) if below or right else x
        if any(shift):
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
        q, k, v = self.project(cut_windows(x, window))
        bias = self.bias(window).to(q.dtype)[None]  # four axes: with three, PyTorch's fused kernel takes no bias
        if any(shift):
            visible = same_region(rows + below, columns + right, window, shift).to(x.device)
            hidden = torch.zeros_like(visible, dtype=q.dtype).masked_fill(~visible, HIDDEN)
            bias = (bias + hidden[:, None]).repeat(q.shape[0] // visible.shape[0], 1, 1, 1)  # one for each image
        x = join_windows(self.proj(attend(q, k, v, bias)), window, rows + below, columns + right)
        if any(shift):
            x = torch.roll(x, shift, (1, 2))
        return x[:, :rows, :columns]
