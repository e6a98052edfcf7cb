"""Change attention weights while a model runs: `vitral.watch(model, edit=without_head(3, 1))`.

An `Edit` maps some rows of a layer's weights (B, heads, rows, N) to the rows that multiply the values instead.

Axes:  b batch   h heads   r rows   m key tokens
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import UsageError

Weights = Float[Tensor, "b h r m"]


@dataclass(frozen=True)
class Edit:
    """A change of attention. `change(layer, rows, queries)` gets the layer's number, in the order the layers run, some
    rows of its weights and the token indices of those rows. `layers` are those that must exist; none means any."""

    change: Callable[[int, Weights, Sequence[int]], Weights]
    layers: tuple[int, ...] = ()

    def __call__(self, layer: int, rows: Weights, queries: Sequence[int]) -> Weights:
        return self.change(layer, rows, queries)

    def check(self, num_layers: int) -> None:
        """Raise `UsageError` if a layer to edit did not run."""
        for layer in self.layers:
            check_index(layer, num_layers, "layer")


def without_head(layer: int, head: int) -> Edit:
    """Set the output of one head of one layer to zero."""

    def change(current: int, rows: Weights, queries: Sequence[int]) -> Weights:
        if current != layer:
            return rows
        keep = torch.ones(rows.shape[1], 1, 1, dtype=rows.dtype, device=rows.device)
        keep[check_index(head, rows.shape[1], "head")] = 0
        return rows * keep

    return Edit(change, (layer,))


def without_token(token: int, layers: Sequence[int] | None = None) -> Edit:
    """Let no token attend to this one, in these layers or in all; the other weights are scaled to sum to 1."""

    def change(current: int, rows: Weights, queries: Sequence[int]) -> Weights:
        if layers is not None and current not in layers:
            return rows
        keep = torch.ones(rows.shape[-1], dtype=rows.dtype, device=rows.device)
        keep[check_index(token, rows.shape[-1], "token")] = 0
        return renormalise(rows * keep)

    return Edit(change, tuple(layers or ()))


def without_edge(layer: int, query: int, key: int, head: int | None = None) -> Edit:
    """Let one token no longer attend to another, in one head or all; its other weights are scaled to sum to 1."""

    def change(current: int, rows: Weights, queries: Sequence[int]) -> Weights:
        if current == layer:
            check_index(query, rows.shape[-1], "token")
        if current != layer or query not in queries:
            return rows
        keep = torch.ones_like(rows)
        heads = slice(None) if head is None else check_index(head, rows.shape[1], "head")
        # `queries` may be some rows only: the query's place among them, not its index, is set to zero.
        keep[:, heads, list(queries).index(query), check_index(key, rows.shape[-1], "token")] = 0
        return renormalise(rows * keep)

    return Edit(change, (layer,))


def renormalise(rows: Weights) -> Weights:
    """Scale rows to sum to 1 again; a row with nothing left stays zero."""
    return rows / rows.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)


def check_index(index: int, count: int, kind: str) -> int:
    """The index. Raises `UsageError` if it does not exist."""
    if not 0 <= index < count:
        raise UsageError(f"There is no {kind} {index} to leave out: there are {count}, 0 to {count - 1}.")
    return index
