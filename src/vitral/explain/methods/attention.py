"""`attention`: what one token attends to, layer by layer and head by head (Dosovitskiy et al. 2021, §4.5, for CLS).

It shows where a token reads, not what the model's answer depends on: it is the same for every class.

Axes:  b images   l layers   h heads   n tokens   g patches   gy gx rows, columns of patches
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError, WatchError
from vitral.base.modes import evaluating
from vitral.explain.maps import Maps
from vitral.explain.pixels import pixels_of
from vitral.explain.readout import asked, named_reader, readers_of
from vitral.explain.target import Target
from vitral.recording.forward import answered, check_unchanged
from vitral.recording.indices import check_patch, chosen, is_pair, is_whole
from vitral.recording.intercept import TOLERANCE, Rows, watch
from vitral.recording.layers import Layer, Seen, total
from vitral.recording.roles import MOST_PREFIX_TOKENS, Grid, Tokens
from vitral.recording.windows import Windows

Query = int | Grid | None


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
    column of a patch, or a token's index, 0 being the first; by default it is what the answer is read from, as found by
    `explain.readout`: CLS, the mean of the patches or of all tokens, or the query of an attention pool. Attention
    within windows is put where the windows stand. Where layers have different grids or heads, `layers` must choose some
    that are alike; by default the last ones are taken.

    Raises `UsageError` for a layer, head or token that does not exist, `WatchError` if no attention is seen or what is
    seen cannot be verified.
    """
    query = checked_query(query)
    with evaluating(model):
        plain = answered(model, images)
        readers, rows = asked_rows(model, images) if query is None else ((), "all")
        with watch(model, rows=rows) as seen:
            watched = answered(model, images)
    check_unchanged(watched, plain, TOLERANCE[plain.dtype])

    shown, left_out = alike(seen, layers)
    if seen.missed:
        left_out += f" {seen.missed} more softmaxes over tokens were formed whose products with values are not known."
    some_heads = chosen(heads, shown[0].num_heads, "head")
    tokens, own = shown[0].tokens, {id(layer): readers_of(layer, seen, readers) for layer in shown}
    weights = torch.stack([read(layer, query, own[id(layer)])[:, some_heads] for layer in shown], dim=1).float()
    prefix, patches = weights.split([len(tokens.prefix), weights.shape[-1] - len(tokens.prefix)], dim=-1)
    who = reader(shown, query, own)
    return Maps(
        method="attention",
        explained=f"Shown is where {who} reads, not what the answer depends on; it is the same for every class."
        + left_out,
        values=rearrange(times_uniform(patches), "b l h (gy gx) -> b l h gy gx", gy=tokens.grid[0]).cpu().numpy(),
        prefix_mass=prefix.sum(dim=-1).cpu().numpy(),
        pixels=pixels_of(model, images),
        layers=tuple(layer.name for layer in shown),
        heads=tuple(some_heads),
        residual=max(layer.residual for layer in shown),
        reader=who,
        of_answer=query is None or who == "CLS",
        prefix="CLS" if tokens.prefix == ("cls",) else "not on patches" if tokens.prefix else "",
    )


def checked_query(query: Any) -> Query:
    """The query. Raises `UsageError` for what is neither a token's index nor a patch's row and column."""
    if is_whole(query):
        return int(query)
    if is_pair(query):
        return int(query[0]), int(query[1])
    if query is not None:
        raise UsageError(f"query={query!r} is neither a token's index nor the (row, column) of a patch.")
    return None


def asked_rows(model: nn.Module, images: Float[Tensor, "b c y x"]) -> tuple[tuple[int, ...], Rows]:
    """The tokens that the answer is read from, and which rows to watch for them: a few, if each layer has these."""
    readers, seen = asked(model, images)
    sizes = {layer.num_tokens for layer in seen.layers if layer.num_queries > 1}
    each = all(
        layer.windows is None and max(readers, default=0) < layer.num_queries in (1, layer.num_tokens)
        for layer in seen.layers
    )
    few = 0 < len(readers) <= MOST_PREFIX_TOKENS and each and len(sizes) <= 1
    return readers, list(readers) if few else "all"


def alike(seen: Seen, layers: Sequence[int] | None) -> tuple[list[Layer], str]:
    """The layers asked for, or the last ones that are alike, and what to say of the others.

    Raises `UsageError` if those asked for have different grids or heads, or nothing tells what their tokens are.
    """
    if layers is not None:
        asked_for = [seen.layers[index] for index in chosen(layers, len(seen.layers), "layer")]
        if len({kind(layer) for layer in asked_for}) > 1:
            sizes = ", ".join(f"{number} {layer.name}: {size(layer)}" for number, layer in enumerate(seen.layers))
            raise UsageError(
                f"The layers have different numbers of heads and tokens ({sizes}), so no figure holds them all. "
                "Choose some that are alike: layers=[...]."
            )
        return asked_for, ""
    kind(seen.layers[-1])  # which says why, if it is not known
    first = first_like(seen.layers, kind)
    if first:  # a pool is shown beside the tokens that it reads only where all layers are
        first = first_like(seen.layers, lambda layer: (kind(layer), layer.num_queries))
    return seen.layers[
        first:
    ], f" Layers 0 to {first - 1} have other grids or heads and are not shown." if first else ""


def kind(layer: Layer) -> tuple[int, Tokens]:
    """What layers of one figure have in common. Raises `UsageError` if nothing tells what the tokens are."""
    return layer.num_heads, layer.tokens


def size(layer: Layer) -> str:
    try:
        rows, columns = layer.tokens.grid
    except (UsageError, WatchError):
        return f"{layer.num_heads} heads, of tokens whose places are not known"
    return f"{layer.num_heads} heads, {rows} x {columns}"


def first_like(layers: Sequence[Layer], by: Callable[[Layer], Any]) -> int:
    """From which layer on all are like the last."""
    last = by(layers[-1])
    for number in reversed(range(len(layers))):
        try:
            same = by(layers[number]) == last
        except UsageError:
            same = False
        if not same:
            return number + 1
    return 0


def read(layer: Layer, query: Query, readers: tuple[int, ...] = ()) -> Float[Tensor, "b h n"]:
    """What the query, or else the readers, read: a weight for each token, or each place where windows stand."""
    if layer.windows is not None:
        if query is None:
            return layer.windows.spread(mean_of_windows(layer, layer.windows))
        window, token = layer.windows.at(place_of(layer, query))
        rows = layer.rows([token])[:, :, 0]
        ours = torch.arange(len(rows), device=rows.device) % len(layer.windows.places) == window
        return layer.windows.spread(torch.where(ours[:, None, None], rows, 0))
    if query is None:
        return mean_row(layer, readers)
    return layer.rows([query if isinstance(query, int) else patch_token(layer, query)])[:, :, 0]


def mean_row(layer: Layer, readers: tuple[int, ...] = ()) -> Float[Tensor, "b h n"]:
    """What the readers attend to on average, or all tokens."""
    if 0 < len(readers) <= MOST_PREFIX_TOKENS:
        return layer.rows(readers).mean(dim=2)
    if layer.num_queries == 1:
        return layer.rows([0])[:, :, 0]
    some = torch.zeros(layer.num_queries, device=layer.seen.device)
    some[list(readers) or slice(None)] = 1 / (len(readers) or layer.num_queries)
    return total((rows.mT @ some[queries].to(rows.dtype)) for queries, rows in layer.chunks())


def mean_of_windows(layer: Layer, windows: Windows) -> Float[Tensor, "bw h m"]:
    """What each window's tokens of the image attend to, each counted alike; padding reads too, but is none of them."""
    real = (windows.places >= 0).repeat(len(layer.seen) // len(windows.places), 1).to(layer.seen.device)
    return total(
        torch.einsum("bhrm,br->bhm", rows, real[:, queries].to(rows.dtype)) for queries, rows in layer.chunks()
    )


def patch_token(layer: Layer, patch: Grid) -> int:
    """The token that a patch is. Raises `UsageError` if there is none, or queries and tokens are not the same."""
    if not layer.among_themselves:
        who = "one learned query" if layer.num_queries == 1 else f"{layer.num_queries} queries"
        raise UsageError(
            f"{layer.name} has {who} for {layer.num_tokens} tokens, so no query is known to be the patch in row "
            f"{patch[0]}, column {patch[1]}. Choose layers whose tokens read each other: layer= or layers=[...]."
        )
    return layer.num_prefix_tokens + place_of(layer, patch)


def place_of(layer: Layer, query: int | Grid) -> int:
    """The number of a patch, counted along rows, from its row and column. Raises `UsageError` if there is none."""
    columns = layer.tokens.grid[1]
    patch = query if isinstance(query, tuple) else divmod(query, columns)
    row, column = check_patch(patch, layer.tokens.grid, layer.name)
    return row * columns + column


def reader(layers: Sequence[Layer], query: Query, readers: Mapping[int, tuple[int, ...]]) -> str:
    """Who reads, in words; `readers` are each layer's, by its id."""
    layer = layers[0]
    if isinstance(query, tuple):
        return f"the patch in row {query[0]}, column {query[1]}"
    if query is not None and not layer.among_themselves:
        return f"query {query} of {layer.num_queries}"
    if query is not None and layer.windows is None:
        role = layer.roles[query]
        return "CLS" if role == "cls" else f"token {query} ({role})"
    if query is not None:
        return f"patch {query}"
    who = list(dict.fromkeys(named_reader(layer, readers[id(layer)]) for layer in layers))
    return who[0] if len(who) == 1 else f"{who[0]} (in the last layer {who[-1]})"


def times_uniform(patches: Float[Tensor, "*b g"]) -> Float[Tensor, "*b g"]:
    """Shares of the patches as multiples of what each would get if all were alike; all zero where nothing was given."""
    return patches * patches.shape[-1] / patches.sum(dim=-1, keepdim=True).clamp_min(1e-30)
