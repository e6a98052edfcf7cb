"""What is known of a tensor of attention weights: what it was made of, where its keys are, and which part was used.

Axes:  b batch   h heads   n m query, key tokens
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

from vitral.recording.operators import storage_of

NEW = 1e-3  # between two ranks


@dataclass(eq=False)
class Made:
    """A tensor whose rows sum to one: where it was made, and what became of it."""

    shape: tuple[int, ...]
    axis: int
    where: str
    fate: str = "it multiplies no values"
    shown: bool = False

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.shape))}, summing to 1 over axis {self.axis}, in {self.where}: {self.fate}"


@dataclass(frozen=True)
class Product:
    """A product of weights with values: what the weights were made of, and the memory of both.

    `part` is where the weights begin in memory, if they are a part of one axis of those that were made, as of one head
    or of a chunk of the queries; else None.
    """

    made: tuple[Made, ...]
    weights: int
    values: int
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class Weights:
    """What is known of a tensor of weights: what it was made of, its sizes and strides, and which axis holds the keys.

    An axis of the tensor may be several axes here. `ranks` order the axes as they were when the weights were formed:
    the model's heads are in that order, whatever a product was written with. `is_logarithm` marks a log-softmax.
    `factors` are weights and values whose product, value by value, it is.
    """

    made: tuple[Made, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    keys: int
    is_logarithm: bool = False
    factors: tuple[Tensor, Tensor] | None = None
    ranks: tuple[float, ...] = ()

    def rank(self, axis: int) -> float:
        """Where an axis stood when the weights were formed; one that is not known stands first."""
        return self.ranks[axis] if self.ranks and axis >= 0 else float(axis)

    def axes_of(self, view: Tensor) -> list[list[int]]:
        """For each axis of a view of this tensor, the axes that it runs over, outermost first; none if it is another.

        A view that cuts the keys into parts runs over none of them.
        """
        by_stride = {stride: axis for axis, stride in enumerate(self.strides) if self.sizes[axis] > 1}
        found = []
        for size, stride in zip(view.shape, view.stride()):
            merged: list[int] = []
            while size > 1 and stride:  # an expanded axis has no stride
                axis = by_stride.get(stride)
                if axis is None or size % self.sizes[axis]:
                    # A part of an axis, or one that the tensor did not have: only the keys must be whole.
                    merged = [axis] if axis not in (None, self.keys) and not merged else []
                    break
                merged.insert(0, axis)
                size, stride = size // self.sizes[axis], stride * self.sizes[axis]
            found.append(merged)
        return found

    def part(self, view: Tensor, axes: Sequence[list[int]]) -> tuple[int, int] | None:
        """See `Product`; `axes` are those that each axis of the view runs over."""
        return (storage_of(view), int(view.storage_offset())) if len(self.cut(view, axes)) == 1 else None

    def is_one_query(self, view: Tensor, axes: Sequence[list[int]]) -> bool:
        """Whether a view is one of many queries, of one of many heads or images."""
        cut = self.cut(view, axes)
        return view.shape[-2] == 1 and len(cut) > 1 and any(self.sizes[axis] == self.sizes[self.keys] for axis in cut)

    def cut(self, view: Tensor, axes: Sequence[list[int]]) -> list[int]:
        """The axes of which a view has a part only."""
        length = dict.fromkeys(range(len(self.sizes)), 1)
        for size, merged in zip(view.shape, axes):
            inner = {axis: self.sizes[axis] for axis in merged[1:]}
            length |= inner | ({merged[0]: size // prod(inner.values())} if merged else {})
        return [axis for axis, size in enumerate(self.sizes) if length[axis] < size]

    def moved(self, axes: Sequence[list[int]], output: Tensor, places: Sequence[int | None], **more: Any) -> Any:
        """The weights that a result is whose axes are those in `places` of a tensor with `axes`; None without keys."""
        sizes: list[int] = []
        strides: list[int] = []
        ranks: list[float] = []
        keys = None
        for axis, place in enumerate(places):
            merged = axes[place] if place is not None else []
            inner = [self.sizes[part] for part in merged[1:]]  # the outermost may be longer, or a part of its axis
            for number in range(max(1, len(merged))):
                step = prod(inner[number:])
                if merged and merged[number] == self.keys:
                    keys = len(sizes)
                sizes.append(inner[number - 1] if number else output.shape[axis] // prod(inner))
                strides.append(output.stride(axis) * step)
                # An axis that the weights did not have stays behind the one before it.
                ranks.append(self.rank(merged[number]) if merged else (ranks[-1] if ranks else -1.0) + NEW)
        if keys is None:
            return None
        return Weights(self.made, tuple(sizes), tuple(strides), keys, ranks=tuple(ranks), **more)

    def fail(self, fate: str) -> None:
        for made in self.made:
            made.fate = fate


class UsedParts:
    """Which parts of weights have multiplied values, as where a loop over heads takes one after another."""

    def __init__(self) -> None:
        self.used: dict[Made, list[tuple[int, int] | None]] = {}

    def are_new(self, made: Made, part: tuple[int, int] | None) -> bool:
        """Whether no product before has used these weights, or each another part of the same memory."""
        before = self.used.get(made, [])
        return not before or (
            part is not None and all(one is not None and one[0] == part[0] and one != part for one in before)
        )

    def add(self, made: Sequence[Made], part: tuple[int, int] | None) -> None:
        for one in made:
            self.used.setdefault(one, []).append(part)
