"""Changes of attention to try on a model: `vitral.watch(model, edit=without_head(3, 1))`.

An edit is a function (layer, rows, queries) -> rows: the number of the layer, in the order the layers run, some rows of
its weights (B, heads, len(queries), N), and the indices of those rows' tokens. What it gives is multiplied by the
values instead.

Axes:  b batch   h heads   r rows   m key tokens
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import UsageError

Weights = Float[Tensor, "b h r m"]
Edit = Callable[[int, Weights, Sequence[int]], Weights]


def without_head(layer: int, head: int) -> Edit:
    """One head of one layer adds nothing."""

    def edit(current: int, rows: Weights, queries: Sequence[int]) -> Weights:
        if current != layer:
            return rows
        kept = torch.ones(rows.shape[1], 1, 1, dtype=rows.dtype, device=rows.device)
        kept[existing(head, rows.shape[1], "head")] = 0
        return rows * kept

    return of_layers(edit, [layer])


def without_token(token: int, layers: Sequence[int] | None = None) -> Edit:
    """No token attends to this one, in these layers or all; what it got is shared out among the others."""

    def edit(current: int, rows: Weights, queries: Sequence[int]) -> Weights:
        if layers is not None and current not in layers:
            return rows
        kept = torch.ones(rows.shape[-1], dtype=rows.dtype, device=rows.device)
        kept[existing(token, rows.shape[-1], "token")] = 0
        return shared_out(rows * kept)

    return of_layers(edit, layers or [])


def without_edge(layer: int, query: int, key: int, head: int | None = None) -> Edit:
    """One token no longer attends to one other, in one head or all; what that got is shared out among the others."""

    def edit(current: int, rows: Weights, queries: Sequence[int]) -> Weights:
        if current == layer:
            existing(query, rows.shape[-1], "token")
        if current != layer or query not in queries:
            return rows
        kept = torch.ones_like(rows)
        heads = slice(None) if head is None else existing(head, rows.shape[1], "head")
        kept[:, heads, list(queries).index(query), existing(key, rows.shape[-1], "token")] = 0
        return shared_out(rows * kept)

    return of_layers(edit, [layer])


def of_layers(edit: Edit, layers: Sequence[int]) -> Edit:
    """Note which layers an edit names, so that one which does not exist is refused."""
    edit.layers = layers  # type: ignore[attr-defined]
    return edit


def check_edit(edit: Edit, count: int) -> None:
    """Raise `UsageError` for an edit of a layer that did not run."""
    for layer in getattr(edit, "layers", ()):
        existing(layer, count, "layer")


def shared_out(rows: Weights) -> Weights:
    """Rows that sum to one again; a row with nothing left stays empty."""
    return rows / rows.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)


def existing(index: int, count: int, what: str) -> int:
    if not 0 <= index < count:
        raise UsageError(f"There is no {what} {index} to leave out: there are {count}, 0 to {count - 1}.")
    return index
