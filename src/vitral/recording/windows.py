"""Where the tokens of attention within windows stand in the image (Liu et al. 2021, "Swin Transformer", §3.2).

Whoever computes attention in windows first pads or rolls a map of tokens (B, rows, columns, D) and then cuts it, and
the windows' tokens are vectors of that map. So the cut is found by looking: it is the one that gives exactly the tokens
that went into the attention. The same padding and rolling of a map of numbers then says where each stood.

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
RECENT = 6  # maps and windows of which one may be what the attention reads


@dataclass(frozen=True)
class Windows:
    """`places[w, i]` is where token i of window w stands in the image, counted along rows; -1 is padding."""

    grid: tuple[int, int]
    places: Int[Tensor, "w n"]

    def at(self, place: int) -> tuple[int, int]:
        """The window, and the token in it, of a place in the image."""
        window, token = (self.places == place).nonzero()[0].tolist()
        return window, token

    def spread(self, values: Float[Tensor, "bw h n"]) -> Float[Tensor, "b h gyx"]:
        """A value for each token of each window, put where it stands; zero where nothing was said."""
        values = rearrange(values, "(b w) h n -> b h (w n)", w=len(self.places))
        image = values.new_zeros(*values.shape[:2], self.grid[0] * self.grid[1] + 1)
        return image.index_copy(2, self.places.flatten() % image.shape[-1], values)[..., :-1]


class Trail:
    """The maps, moves and windows of tokens that a model has just made."""

    def __init__(self) -> None:
        self.maps: deque[Tensor] = deque(maxlen=RECENT)
        self.moved: dict[int, tuple[Tensor, Tensor, Callable[..., Tensor], tuple, dict]] = {}
        self.inputs: deque[Tensor] = deque(maxlen=RECENT)
        self.read = 0.0  # tokens an image, in what a linear map read last

    def clear(self) -> None:
        self.maps.clear()
        self.moved.clear()
        self.inputs.clear()

    def note(self, func: Any, args: tuple, kwargs: dict, result: Any, batch: int) -> None:
        """Remember a map of tokens, how it was moved, or the windows that a linear map read."""
        if func is F.linear:
            self.read = args[0].numel() / args[0].shape[-1] / batch
            if args[0].ndim == 3 and (args[0].shape[0] > batch or (self.moved and args[0].shape[0] == batch)):
                self.inputs.append(args[0])
        elif isinstance(result, Tensor) and result.ndim == 4 and result.shape[0] == batch:
            if func in MOVES and isinstance(args[0], Tensor) and args[0].ndim == 4:
                self.moved[id(result)] = (result, args[0], func, args[1:], kwargs)
            self.maps.append(result)

    def windows(self, batch: int, count: int, n: int) -> Windows | None:
        """How `count` items of attention over `n` tokens were cut from maps of `batch` images, if they were.

        One window an image is one only of a map that was padded or rolled: else it is attention over the whole image.
        """
        moved = [made for made, *_ in reversed(self.moved.values())]
        sources = moved if count == batch else [*reversed(self.maps), *moved]
        for tokens in (read for read in reversed(self.inputs) if read.shape[:2] == (count, n)):
            for source in (seen for seen in sources if seen.numel() == tokens.numel()):
                for height, width in sides(n, *source.shape[1:3]):
                    if torch.equal(cut(source, height, width), tokens):
                        origin, places = self.places(source)
                        found = Windows(origin, cut(places, height, width)[..., 0])
                        whole = torch.arange(origin[0] * origin[1], device=source.device)[None]
                        return None if count == batch and torch.equal(found.places, whole) else found
        return None

    def places(self, source: Tensor) -> tuple[tuple[int, int], Int[Tensor, "1 y x 1"]]:
        """The size of the map that `source` was moved from, and where in it each of its tokens stood."""
        moves = []
        while id(source) in self.moved:
            _, source, func, args, kwargs = self.moved[id(source)]
            moves.append((func, args, kwargs))
        rows, columns = source.shape[1:3]
        places = torch.arange(1, rows * columns + 1, device=source.device).reshape(1, rows, columns, 1)
        for func, args, kwargs in reversed(moves):
            places = func(places, *args, **kwargs)
        return (rows, columns), places - 1


def cut(tokens: Tensor, height: int, width: int) -> Tensor:
    return rearrange(tokens, "b (y wy) (x wx) d -> (b y x) (wy wx) d", wy=height, wx=width)


def sides(n: int, rows: int, columns: int) -> list[tuple[int, int]]:
    """Heights and widths of windows of n tokens that share out so many rows and columns, the squarest first."""
    pairs = [(height, n // height) for height in range(1, n + 1) if n % height == 0]
    fitting = [(height, width) for height, width in pairs if rows % height == 0 and columns % width == 0]
    return sorted(fitting, key=lambda pair: abs(pair[0] - pair[1]))
