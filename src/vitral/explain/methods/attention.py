"""`attention`: what one token attends to, layer by layer and head by head (Dosovitskiy et al. 2021, §4.5, for CLS).

It shows where a token reads, not what the model's answer depends on: it is the same for every class.

Axes:  b images   l layers   h heads   n tokens   g patches   gy gx rows, columns of patches
"""

from collections.abc import Sequence
from contextlib import suppress

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.explain.maps import Maps
from vitral.explain.seen import Layer, Seen
from vitral.explain.subject import Target, answered, check_unchanged, pick, pixels_of
from vitral.explain.watch import TOLERANCE, NoClassToken, watch

Query = int | tuple[int, int] | None


@torch.no_grad()
def attention(
    model: nn.Module,
    images: Float[Tensor, "b c y x"],
    target: Target = None,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    query: Query = None,
) -> Maps:
    """G · A[query, patch] / Σ over patches of A[query, ·], with G patches: 1 where a patch gets as much as the others.

    `images` are as the model takes them; `target` is ignored, since attention knows no class. `query` is the row and
    column of a patch, or a token's index, 0 being CLS; by default it is what the answer is read from: CLS, or the query
    of an attention pool, or else the mean over all tokens. Attention within windows is put where the windows stand.

    Raises `UsageError` for a layer, head or token that does not exist, `WatchError` if no attention is seen or what is
    seen cannot be verified.
    """
    with evaluating(model):
        plain = answered(model, images)
        watched, seen = watched_for(model, images, query)
    check_unchanged(watched, plain, TOLERANCE[plain.dtype])

    chosen = [seen.layers[index] for index in pick(layers, len(seen.layers), "layer")]
    if len({(layer.num_heads, layer.tokens) for layer in chosen}) > 1:
        sizes = ", ".join(
            f"{number} {layer.name}: {layer.num_heads} heads, {grid}"
            for number, layer in enumerate(seen.layers)
            for grid in [" x ".join(map(str, layer.tokens.grid))]
        )
        raise UsageError(
            f"The layers have different numbers of heads and tokens ({sizes}), so no figure holds them all. "
            "Choose some that are alike: layers=[...]."
        )
    some_heads = pick(heads, chosen[0].num_heads, "head")
    tokens = chosen[0].tokens
    weights = torch.stack([read(layer, query)[:, some_heads] for layer in chosen], dim=1).float()
    prefix, patches = weights.split([len(tokens.prefix), weights.shape[-1] - len(tokens.prefix)], dim=-1)
    who = reader(chosen[0], query)
    return Maps(
        method="attention",
        explained=f"Shown is where {who} reads, not what the answer depends on; it is the same for every class.",
        values=rearrange(times_uniform(patches), "b l h (gy gx) -> b l h gy gx", gy=tokens.grid[0]).cpu().numpy(),
        prefix_mass=prefix.sum(dim=-1).cpu().numpy(),
        pixels=pixels_of(model, images),
        layers=tuple(layer.name for layer in chosen),
        heads=tuple(some_heads),
        residual=max(layer.residual for layer in chosen),
        reader=who,
        prefix="CLS" if tokens.prefix == ("cls",) else "not on patches" if tokens.prefix else "",
    )


def watched_for(model: nn.Module, images: Tensor, query: Query) -> tuple[Tensor, Seen]:
    """The model's answer while it is watched, and what was seen: no more rows than the query needs."""
    if query is None:
        with suppress(NoClassToken), watch(model) as seen:
            answer = answered(model, images)
            if all(read_by_one(layer) for layer in seen.layers):
                return answer, seen
    with watch(model, rows=[query] if isinstance(query, int) else "all") as seen:
        return answered(model, images), seen


def read(layer: Layer, query: Query) -> Float[Tensor, "b h n"]:
    """What the query reads: a weight for each token, or for each place in the image where attention is in windows."""
    if layer.windows is not None:
        if query is None:
            return layer.windows.spread(mean_row(layer))
        window, token = layer.windows.at(place_of(layer, query))
        rows = layer.rows([token])[:, :, 0]
        ours = torch.arange(len(rows), device=rows.device) % len(layer.windows.places) == window
        return layer.windows.spread(torch.where(ours[:, None, None], rows, 0))
    if query is None:
        return layer.rows([0])[:, :, 0] if read_by_one(layer) else mean_row(layer)
    place = query if isinstance(query, int) else layer.num_prefix_tokens + place_of(layer, query)
    return layer.rows([place])[:, :, 0]


def read_by_one(layer: Layer) -> bool:
    """Whether the answer is read from one token: CLS, or the query of a pool."""
    return layer.num_queries == 1 or (layer.windows is None and layer.tokens.has_cls)


def mean_row(layer: Layer) -> Float[Tensor, "b h n"]:
    """What the tokens attend to on average."""
    total = torch.stack([rows.sum(dim=2) for _, rows in layer.chunks()]).sum(dim=0)
    return total / layer.num_queries


def place_of(layer: Layer, query: int | tuple[int, int]) -> int:
    """The number of a patch, counted along rows, from its row and column. Raises `UsageError` if there is none."""
    rows, columns = layer.tokens.grid
    row, column = query if isinstance(query, tuple) else divmod(query, columns)
    if not (0 <= row < rows and 0 <= column < columns):
        raise UsageError(
            f"There is no patch at row {row}, column {column}: {layer.name} has {rows} rows and {columns} columns."
        )
    return row * columns + column


def reader(layer: Layer, query: Query) -> str:
    """Who reads, in words."""
    if isinstance(query, tuple):
        return f"the patch in row {query[0]}, column {query[1]}"
    if query is not None and layer.windows is None:
        role = layer.roles[query]
        return "CLS" if role == "cls" else f"token {query} ({role})"
    if query is not None:
        return f"patch {query}"
    if not read_by_one(layer):
        return "the mean of all tokens"
    return "the pool's query" if layer.num_queries == 1 else "CLS"


def times_uniform(patches: Float[Tensor, "*b g"]) -> Float[Tensor, "*b g"]:
    """Shares of the patches as multiples of what each would get if all were alike; all zero where nothing was given."""
    return patches * patches.shape[-1] / patches.sum(dim=-1, keepdim=True).clamp_min(1e-30)
