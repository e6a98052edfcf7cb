"""Which rows of attention a page keeps, so that it is not larger than its limit.

All of them, if they fit. Otherwise fewer queries, then single heads in the last layers only. The rows of CLS and other
tokens that are no patches are kept in every layer and head in any case, and so is the mean of heads of every patch that
is kept as a query. Keys are never left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vitral.explorer.shown_layer import ShownLayer

STEPS = (1, 2, 4, 8)
ORDINALS = {2: "2nd", 4: "4th", 8: "8th"}
Heads = Literal["each", "mean"]


@dataclass(frozen=True)
class Choice:
    """Every `step`-th patch in rows and columns, with its single heads in the last `single` layers of a page."""

    step: int
    single: int

    def parts(self, layer: ShownLayer, place: int, count: int) -> Iterator[tuple[Heads, list[int]]]:
        """Which heads and queries of the layer at this place, of `count` layers, are kept together."""
        patches = layer.patch_queries(self.step)
        if place >= count - self.single:
            yield "each", layer.prefix_queries + patches
            return
        if layer.prefix_queries:
            yield "each", layer.prefix_queries
        if patches:
            yield "mean", patches

    def num_values(self, layers: Sequence[ShownLayer]) -> int:
        """Weights that are kept of one image."""
        return sum(
            (layer.num_heads if heads == "each" else 1) * len(queries) * layer.num_keys
            for place, layer in enumerate(layers)
            for heads, queries in self.parts(layer, place, len(layers))
        )

    def sentence(self, num_layers: int) -> str:
        """What is kept, in words; empty if that is everything."""
        if self == Choice(1, num_layers):
            return ""
        which = f"every {ORDINALS[self.step]} patch in rows and columns" if self.step > 1 else "every patch"
        if self.single == num_layers:
            return f"As queries, it has {which}, in every layer and head. CLS and registers have every layer and head."
        last = "layer" if self.single == 1 else f"{self.single} layers"
        single = f"single heads in the last {last}" if self.single else "no single heads"
        return (
            f"As queries, it has {which}: the mean of heads in every layer, and {single}. CLS and registers have every "
            "layer and head."
        )


def choices(num_layers: int) -> Iterator[Choice]:
    """From everything to least, in the order in which they are tried."""
    yield Choice(1, num_layers)
    for step in STEPS[1:]:
        yield from (Choice(step, single) for single in range(num_layers, 0, -1))
    yield Choice(STEPS[-1], 0)
