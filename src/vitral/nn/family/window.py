"""Attention within windows of a map of tokens: O(N) where attention over all tokens is O(N²).

Liu et al. 2021, "Swin Transformer", §3.2.

Axes:  b batch   w windows   h heads   y x rows, columns   n tokens of a window   d width   e width of one head
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitral.nn.attention import Attention
from vitral.nn.family.relative import differences

Side = tuple[int, int]


def cut(x: Float[Tensor, "b y x d"], window: Side) -> Float[Tensor, "bw n d"]:
    return rearrange(x, "b (y wy) (x wx) d -> (b y x) (wy wx) d", wy=window[0], wx=window[1])


def joined(tokens: Float[Tensor, "bw n d"], window: Side, rows: int, columns: int) -> Float[Tensor, "b y x d"]:
    y, x = rows // window[0], columns // window[1]
    return rearrange(tokens, "(b y x) (wy wx) d -> b (y wy) (x wx) d", y=y, x=x, wy=window[0])


def same_region(rows: int, columns: int, window: Side, shift: Side) -> Bool[Tensor, "w n n"]:
    """Which tokens of a window may see each other once the map has been rolled: those that were neighbours before.

    Rolling brings what left at the top and the left back at the bottom and the right; along each axis that is a region
    of its own.
    """
    region = torch.zeros(1, rows, columns, 1)
    for axis, step in ((1, shift[0]), (2, shift[1])):
        if step:
            region.narrow(axis, region.shape[axis] - step, step).add_(axis)
    own = cut(region, window)
    return own == own.mT


class WindowAttention(Attention):
    """Attention within each window, with a learned bias for each distance.

    The table has a row for every distance in a window of `window_size`; in a smaller window some stay unused.
    """

    index: Tensor

    def __init__(self, embed_dim: int, num_heads: int, window_size: int = 7):
        super().__init__(embed_dim, num_heads)
        self.window_size = window_size
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        self.register_buffer("index", differences((window_size, window_size)), persistent=False)

    def init_weights(self) -> None:
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def bias(self, window: Side) -> Float[Tensor, "h n n"]:
        index = self.index if window == (self.window_size,) * 2 else differences(window, (self.window_size,) * 2)
        return self.relative_position_bias_table[index].permute(2, 0, 1)

    def attend(
        self, x: Float[Tensor, "bw n d"], window: Side, seen: Bool[Tensor, "w n n"] | None = None
    ) -> Float[Tensor, "bw n d"]:
        q, k, v = rearrange(self.qkv(x), "b n (three h e) -> three b h n e", three=3, h=self.num_heads)
        bias = self.bias(window).to(q.dtype)[None]  # four axes: of three, PyTorch's fused kernel takes no bias
        if seen is not None:
            hidden = torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, HIDDEN)
            bias = (bias + hidden[:, None]).repeat(x.shape[0] // seen.shape[0], 1, 1, 1)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(rearrange(x, "b h n e -> b n (h e)"))


HIDDEN = -100.0  # added to the logit of what must not be seen, as in every published Swin


class ShiftedWindows(WindowAttention):
    """Attention in windows of a map that is first padded to whole windows, then shifted; and back.

    Padding comes before the shift, so that nothing is seen across the seam where the map wraps around. A map with a
    side of no more than a window is one window along it, and is not shifted along it. Padding is seen by its window's
    tokens, as in every published Swin.
    """

    def __init__(self, embed_dim: int, num_heads: int, window_size: int = 7, shift: int = 0):
        super().__init__(embed_dim, num_heads, window_size)
        self.shift = shift

    def forward(self, x: Float[Tensor, "b y x d"]) -> Float[Tensor, "b y x d"]:
        rows, columns = x.shape[1:3]
        height, width = min(self.window_size, rows), min(self.window_size, columns)
        shift = self.shift if rows > height else 0, self.shift if columns > width else 0
        below, right = -rows % height, -columns % width
        x = F.pad(x, (0, 0, 0, right, 0, below)) if below or right else x
        seen = None
        if any(shift):
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
            seen = same_region(rows + below, columns + right, (height, width), shift).to(x.device)
        x = self.attend(cut(x, (height, width)), (height, width), seen)
        x = joined(x, (height, width), rows + below, columns + right)
        if any(shift):
            x = torch.roll(x, shift, (1, 2))
        return x[:, :rows, :columns]
