"""Attention in windows of the grid of patches that do not overlap, and to and from the tokens before the patches.

Li et al. 2022, "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet), §3. Prefix tokens attend
to all tokens and all tokens attend to them, as the global tokens of Beltagy et al. 2020, "Longformer", §3.1; ViTDet
leaves them out. So a window that covers the grid is attention over the image.

Axes:  b batch   h heads   n m tokens (queries, keys)   p prefix tokens   y x rows, columns   w windows   e width of one
       head   d width
"""

from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitral.nn.attention import Attend, Attention, Heads, attend

Side = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Attention of each patch to the patches of its window, `size` x `size` of them, and to the prefix tokens.

    The windows do not overlap. Where they do not divide the grid, the last ones are filled up with places that no token
    attends to. Takes the place of `attend` in a mixer.
    """

    size: int
    grid: Side
    num_prefix_tokens: int

    @property
    def window(self) -> Side:
        """Rows and columns of a window; along a side that is shorter than `size`, there is one window as long as it."""
        return min(self.size, self.grid[0]), min(self.size, self.grid[1])

    @property
    def is_whole(self) -> bool:
        """Whether one window covers the grid, so that this is attention over the image."""
        return self.window == self.grid

    @property
    def padding(self) -> Side:
        """Rows below and columns at the right that fill up the last windows."""
        (rows, columns), (height, width) = self.grid, self.window
        return -rows % height, -columns % width

    def places(self) -> Int[Tensor, "w n"]:
        """The patch at each place of each window, counted along rows; -1 where there is none."""
        (rows, columns), (height, width), (below, right) = self.grid, self.window, self.padding
        padded = F.pad(torch.arange(rows * columns).reshape(rows, columns), (0, right, 0, below), value=-1)
        return rearrange(padded, "(y wy) (x wx) -> (y x) (wy wx)", wy=height, wx=width)

    def cut(self, x: Float[Tensor, "b h yx e"]) -> Float[Tensor, "bw h n e"]:
        """The patches of each window; zeros where there is none."""
        (height, width), (below, right) = self.window, self.padding
        x = rearrange(x, "b h (y x) e -> b h y x e", y=self.grid[0])
        if below or right:
            x = F.pad(x, (0, 0, 0, right, 0, below))
        return rearrange(x, "b h (y wy) (x wx) e -> (b y x) h (wy wx) e", wy=height, wx=width)

    def join(self, x: Float[Tensor, "bw n d"]) -> Float[Tensor, "b yx d"]:
        """The patches of all windows along rows: the opposite of `cut`."""
        (rows, columns), (height, width) = self.grid, self.window
        down, across = -(-rows // height), -(-columns // width)
        x = rearrange(x, "(b y x) (wy wx) d -> b (y wy) (x wx) d", y=down, x=across, wy=height)
        return rearrange(x[:, :rows, :columns], "b y x d -> b (y x) d")

    def cut_bias(self, bias: Float[Tensor, "1 h n n"]) -> Float[Tensor, "w h m k"]:
        """The bias between the patches of each window, and from them to the prefix tokens before them."""
        patches, p = self.places().clamp_min(0).to(bias.device) + self.num_prefix_tokens, self.num_prefix_tokens
        prefix = torch.arange(p, device=bias.device).expand(len(patches), -1)
        keys = torch.cat([prefix, patches], dim=1)
        return bias[0][:, patches[:, :, None], keys[:, None]].transpose(0, 1)

    def __call__(self, q: Heads, k: Heads, v: Heads, bias: Tensor | None = None) -> Float[Tensor, "b n d"]:
        if self.is_whole:
            return attend(q, k, v, bias)
        p, inside = self.num_prefix_tokens, self.places() >= 0
        windows = len(inside)
        keys, values = (
            torch.cat([repeat(x[:, :, :p], "b h p e -> (b w) h p e", w=windows), self.cut(x[:, :, p:])], dim=2)
            for x in (k, v)
        )
        local = None if bias is None else self.cut_bias(bias)
        if any(self.padding):
            hidden = torch.zeros(windows, 1, 1, p + inside.shape[1], device=q.device, dtype=q.dtype)
            hidden[..., p:].masked_fill_(~inside[:, None, None].to(q.device), -torch.inf)
            local = hidden if local is None else local + hidden
        if local is not None:
            local = repeat(local, "w h n m -> (b w) h n m", b=len(q))
        first = [attend(q[:, :, :p], k, v, None if bias is None else bias[:, :, :p])] if p else []
        return torch.cat([*first, self.join(attend(self.cut(q[:, :, p:]), keys, values, local))], dim=1)


def takes_attend(mixer: nn.Module) -> bool:
    """Whether a mixer is attention that does what its `attend` says; others may do without."""
    return isinstance(mixer, Attention) and "attend" in signature(type(mixer).forward).parameters


def on_grid(block: Any, grid: Side) -> dict[str, Attend]:
    """What a block is called with for images of another grid: its windows, cut from that; nothing for other blocks."""
    attend = getattr(block.attn, "attend", None)
    return dict(attend=replace(attend, grid=grid)) if isinstance(attend, Windows) else {}
