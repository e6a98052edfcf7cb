"""Where the tokens of attention within windows stand in the image (Liu et al. 2021, "Swin Transformer", §3.2).

A model with windows pads or rolls a map of tokens (B, rows, columns, D) and then cuts it, so the tokens of a window are
vectors of that map. The cut is found by trying: it is the one that yields exactly the tokens that entered attention.
Padding and rolling a map of place numbers in the same way then gives the place of each token.

Axes:  b batch   w windows   n tokens of a window   y x rows, columns   d width
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

MOVES = (F.pad, torch.roll, Tensor.roll)
MASKED = 1e-6  # the share of attention that a mask of finite numbers may leave to what it hides
RECENT = 6  # maps and windows that may be the input of the next attention


@dataclass(frozen=True)
class Windows:
    """`places[w, i]` is the place of token i of window w in the image, counted along rows; -1 is padding."""

    grid: tuple[int, int]
    places: Int[Tensor, "w n"]

    @property
    def is_whole(self) -> bool:
        """Whether it is one window, of all tokens along rows: attention over the whole image."""
        number = self.grid[0] * self.grid[1]
        return self.places.shape == (1, number) and self.places[0].tolist() == list(range(number))

    def agrees(self, grid: tuple[int, int], places: Int[Tensor, "w n"]) -> bool:
        """Whether these are the same windows, in any order."""
        return self.grid == grid and sorted(self.places.tolist()) == sorted(places.tolist())

    def locate(self, place: int) -> tuple[int, int]:
        """The window of a place in the image, and the token in that window."""
        window, token = (self.places == place).nonzero()[0].tolist()
        return window, token

    def spread(self, values: Float[Tensor, "bw h n"]) -> Float[Tensor, "b h gyx"]:
        """Put a value per token of each window at the token's place in the image; zero where there is no value."""
        values = rearrange(values, "(b w) h n -> b h (w n)", w=len(self.places))
        # One place more than the image has takes what stands on padding: -1 % size is the last place, dropped below.
        image = values.new_zeros(*values.shape[:2], self.grid[0] * self.grid[1] + 1)
        return image.index_copy(2, self.places.flatten() % image.shape[-1], values)[..., :-1]

    def share_of_padding(self, values: Float[Tensor, "bw h n"]) -> Float[Tensor, "b h"]:
        """How much of a value per token of each window is on padding, as a fraction of all of an image; 0 where it is
        zero everywhere."""
        values = rearrange(values, "(b w) h n -> b h (w n)", w=len(self.places))
        padding = (self.places < 0).flatten().to(values.device)
        share = values[..., padding].sum(dim=-1) / values.sum(dim=-1).clamp_min(1e-30)
        return torch.where(share > MASKED, share, 0)


class WindowTracker:
    """Remembers the maps of tokens that a model has just made, how it moved them, and what its linear layers read.

    `finds_whole` is whether a map that was not moved, and is attended to as a whole, is found too.
    """

    def __init__(self) -> None:
        self.finds_whole = False
        self.maps: deque[Tensor] = deque(maxlen=RECENT)
        self.moved: dict[int, tuple[Tensor, Tensor, Callable[..., Tensor], tuple, dict]] = {}
        self.inputs: deque[Tensor] = deque(maxlen=RECENT)
        self.tokens_entering = 0.0  # tokens per image in the input of the last linear layer

    def forget(self) -> None:
        """Let go of the tensors held."""
        self.maps.clear()
        self.moved.clear()
        self.inputs.clear()

    def note(self, func: Any, args: tuple, kwargs: dict, result: Any, batch: int) -> None:
        """Remember a map of tokens, how it was moved, or the windows that entered a linear layer."""
        if func is F.linear:
            given = args[0]
            self.tokens_entering = given.numel() / given.shape[-1] / batch
            is_whole = given.shape[0] == batch and (self.finds_whole or (bool(self.moved) and given.ndim == 3))
            if given.ndim in (3, 4) and (given.shape[0] > batch or is_whole):
                self.inputs.append(given.flatten(1, -2))
            else:
                self.maps.clear()  # windows are cut after the layers over the whole image
        elif isinstance(result, Tensor) and result.ndim == 4 and result.shape[0] == batch:
            if func in MOVES and isinstance(args[0], Tensor) and args[0].ndim == 4:
                # The result is kept too: as long as it lives, no other tensor gets its id.
                self.moved[id(result)] = (result, args[0], func, args[1:], kwargs)
            self.maps.append(result)

    def find(self, batch: int, count: int, num_tokens: int) -> Windows | None:
        """How `count` sequences of `num_tokens` were cut from maps of `batch` images; None if they were not.

        With one sequence per image only a padded or rolled map is looked at, unless `finds_whole`.
        """
        # The most recent tensors come first: they are nearly always the right ones, and comparing costs a pass each.
        moved = [result for result, *_ in reversed(self.moved.values())]
        sources = moved if count == batch and not self.finds_whole else [*reversed(self.maps), *moved]
        for tokens in (entering for entering in reversed(self.inputs) if entering.shape[:2] == (count, num_tokens)):
            for source in (candidate for candidate in sources if candidate.numel() == tokens.numel()):
                for height, width in window_sides(num_tokens, *source.shape[1:3]):
                    if torch.equal(cut(source, height, width), tokens):
                        grid, places = self.places_in(source)
                        return Windows(grid, cut(places, height, width)[..., 0])
        return None

    def places_in(self, source: Tensor) -> tuple[tuple[int, int], Int[Tensor, "1 y x 1"]]:
        """The size of the map that `source` was moved from, and the place in it of each of its tokens."""
        moves = []
        while id(source) in self.moved:
            _, source, func, args, kwargs = self.moved[id(source)]
            moves.append((func, args, kwargs))
        rows, columns = source.shape[1:3]
        # Places count from 1 so that the zeros of padding become -1 in the end.
        places = torch.arange(1, rows * columns + 1, device=source.device).reshape(1, rows, columns, 1)
        for func, args, kwargs in reversed(moves):
            places = func(places, *args, **kwargs)
        return (rows, columns), places - 1


def cut(tokens: Tensor, height: int, width: int) -> Tensor:
    """Windows of this size, side by side along rows."""
    return rearrange(tokens, "b (y wy) (x wx) d -> (b y x) (wy wx) d", wy=height, wx=width)


def window_sides(num_tokens: int, rows: int, columns: int) -> list[tuple[int, int]]:
    """Heights and widths of windows of so many tokens that divide this map, the squarest first."""
    pairs = [(height, num_tokens // height) for height in range(1, num_tokens + 1) if num_tokens % height == 0]
    fitting = [(height, width) for height, width in pairs if rows % height == 0 and columns % width == 0]
    return sorted(fitting, key=lambda pair: abs(pair[0] - pair[1]))
