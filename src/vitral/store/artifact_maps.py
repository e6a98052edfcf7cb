"""`maps` in `artifact.json`: which rows of attention an exported model gives beside its answers.

Each output is (b, layers, heads, tokens): what the tokens that the answer is read from attend to, on average, per layer
and head; a row sums to one. Layers of one kind share an output. `residual` is (b, layers), see `residual_of` in
`vitral.recording.traced`.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

ROWS, RESIDUAL = "rows", "residual"


class LayerRows(BaseModel, extra="forbid"):
    """The row of one layer.

    output    which output of the graph holds it, and `index`, at which place on its axis of layers
    reader    whose row it is, in words: "CLS", "the mean of all tokens", "the pool's query"
    queries   the tokens whose rows are averaged; all `num_queries` of the layer if none are named
    windows   whether the layer attends within windows: the row is then over the patches of the image, and sums to less
              than one where windows are padded
    is_cross  whether the queries are others than the tokens that they attend to, as of a pool
    prefix    what the tokens before the patches are called
    grid      rows and columns of patches
    order     the token of each patch, along rows; if empty the patches follow the prefix in that order
    """

    name: str
    output: str
    index: int = Field(ge=0)
    reader: str
    queries: list[int]
    num_queries: int = Field(ge=1)
    windows: bool = False
    is_cross: bool = False
    heads: int = Field(ge=1)
    prefix: list[str]
    grid: tuple[int, int]
    order: list[int] = []

    @property
    def num_tokens(self) -> int:
        return len(self.prefix) + self.grid[0] * self.grid[1]

    @model_validator(mode="after")
    def tokens_are_distinct(self) -> "LayerRows":
        number = self.grid[0] * self.grid[1]
        if min(self.grid) < 1 or any(not 0 <= query < self.num_queries for query in self.queries):
            raise ValueError("the grid needs at least 1 x 1 patches, and queries must exist")
        if self.order and not (len(set(self.order)) == number and set(self.order) <= set(range(self.num_tokens))):
            raise ValueError("order must name one token for each patch")
        return self


class ArtifactMaps(BaseModel, extra="forbid"):
    """The rows of all layers, in the order in which these run.

    read_from  the tokens, `among` how many after the last layer, that the answer is read from
    covers     the part of an image file that the grid of patches covers, in words
    note       what was assumed of the tokens that are read, and what the rows leave out, in sentences
    agreement  what `vitral.exporting.verify_maps` measured
    """

    version: Literal[1] = 1
    layers: list[LayerRows] = Field(min_length=1)
    residual: Literal["residual"] = "residual"
    read_from: list[int]
    among: int = Field(ge=0)
    covers: str
    note: str = ""
    agreement: dict[str, Any] = {}

    @property
    def outputs(self) -> dict[str, list[int]]:
        """The outputs with rows, and the numbers of the layers that each holds, in its order."""
        found: dict[str, list[int]] = {}
        for number, layer in enumerate(self.layers):
            found.setdefault(layer.output, []).append(number)
        return found

    @property
    def names(self) -> list[str]:
        """What the graphs give besides answers and logits, in this order."""
        return [*self.outputs, self.residual]

    @model_validator(mode="after")
    def places_are_in_order(self) -> "ArtifactMaps":
        for output, numbers in self.outputs.items():
            if [self.layers[number].index for number in numbers] != list(range(len(numbers))):
                raise ValueError(f"the layers of {output} must be at the places 0, 1, ... in it")
        return self


def in_outputs(kinds: list[Any]) -> Iterator[tuple[str, int]]:
    """The output and the place in it of each layer: those of one kind share an output.

    >>> list(in_outputs(["a", "a"])), list(in_outputs(["a", "b", "a"]))
    ([('rows', 0), ('rows', 1)], [('rows_0', 0), ('rows_1', 0), ('rows_0', 1)])
    """
    distinct = [kind for number, kind in enumerate(kinds) if kind not in kinds[:number]]
    for number, kind in enumerate(kinds):
        name = ROWS if len(distinct) == 1 else f"{ROWS}_{distinct.index(kind)}"
        yield name, kinds[:number].count(kind)
