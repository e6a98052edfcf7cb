"""`attention`: what one token attends to, layer by layer and head by head (Dosovitskiy et al. 2021, §4.5, for CLS).

It shows where a token reads, not what the model's answer depends on: it is the same for every class.

Axes:  b images   l layers   h heads   n tokens   g patches   gy gx rows, columns of patches
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError
from vitral.base.modes import evaluating
from vitral.explain.maps import Maps
from vitral.explain.reading import named_reader, tokens_read
from vitral.explain.seen import Layer, total
from vitral.explain.subject import Target, answered, check_unchanged, pick, pixels_of
from vitral.explain.tokens import MOST_PREFIX_TOKENS
from vitral.explain.watch import TOLERANCE, Rows, watch

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
    column of a patch, or a token's index, 0 being the first; by default it is what the answer is read from, as found by
    `explain.reading`: CLS, the mean of the patches or of all tokens, or the query of an attention pool. Attention
    within windows is put where the windows stand. Where layers have different grids or heads, `layers` must choose some
    that are alike; by default the last ones are taken.

    Raises `UsageError` for a layer, head or token that does not exist, `WatchError` if no attention is seen or what is
    seen cannot be verified.
    """
    check_query(query)
    with evaluating(model):
        plain = answered(model, images)
        readers = tokens_read(model, images) if query is None else ()
        rows: Rows = list(readers) if 0 < len(readers) <= MOST_PREFIX_TOKENS else "all"
        with watch(model, rows=rows) as seen:
            watched = answered(model, images)
    check_unchanged(watched, plain, TOLERANCE[plain.dtype])

    kinds = [(layer.num_heads, layer.tokens, layer.num_queries == 1) for layer in seen.layers]
    chosen = [seen.layers[index] for index in pick(layers, len(seen.layers), "layer")]
    left_out = ""
    if len({(layer.num_heads, layer.tokens) for layer in chosen}) > 1:
        if layers is not None:
            sizes = ", ".join(
                f"{number} {layer.name}: {layer.num_heads} heads, {' x '.join(map(str, layer.tokens.grid))}"
                for number, layer in enumerate(seen.layers)
            )
            raise UsageError(
                f"The layers have different numbers of heads and tokens ({sizes}), so no figure holds them all. "
                "Choose some that are alike: layers=[...]."
            )
        alike = next(place for place in range(len(kinds)) if len(set(kinds[place:])) == 1)
        chosen = seen.layers[alike:]
        left_out = f" Layers 0 to {alike - 1} have other grids or heads and are not shown."
    if seen.missed:
        left_out += f" {seen.missed} more softmaxes over tokens were formed whose products with values are not known."
    some_heads = pick(heads, chosen[0].num_heads, "head")
    tokens = chosen[0].tokens
    weights = torch.stack([read(layer, query, readers)[:, some_heads] for layer in chosen], dim=1).float()
    prefix, patches = weights.split([len(tokens.prefix), weights.shape[-1] - len(tokens.prefix)], dim=-1)
    who = reader(chosen, query, readers)
    return Maps(
        method="attention",
        explained=f"Shown is where {who} reads, not what the answer depends on; it is the same for every class."
        + left_out,
        values=rearrange(times_uniform(patches), "b l h (gy gx) -> b l h gy gx", gy=tokens.grid[0]).cpu().numpy(),
        prefix_mass=prefix.sum(dim=-1).cpu().numpy(),
        pixels=pixels_of(model, images),
        layers=tuple(layer.name for layer in chosen),
        heads=tuple(some_heads),
        residual=max(layer.residual for layer in chosen),
        reader=who,
        of_answer=query is None or who == "CLS",
        prefix="CLS" if tokens.prefix == ("cls",) else "not on patches" if tokens.prefix else "",
    )


def check_query(query: object) -> None:
    """Raise `UsageError` for what is neither a token's index nor a patch's row and column."""
    whole = isinstance(query, int) and not isinstance(query, bool)
    pair = isinstance(query, tuple) and len(query) == 2 and all(isinstance(place, int) for place in query)
    if query is not None and not whole and not pair:
        raise UsageError(f"query={query!r} is neither a token's index nor the (row, column) of a patch.")


def read(layer: Layer, query: Query, readers: tuple[int, ...] = ()) -> Float[Tensor, "b h n"]:
    """What the query, or else the readers, read: a weight for each token, or each place where windows stand."""
    if layer.windows is not None:
        if query is None:
            return layer.windows.spread(mean_row(layer))
        window, token = layer.windows.at(place_of(layer, query))
        rows = layer.rows([token])[:, :, 0]
        ours = torch.arange(len(rows), device=rows.device) % len(layer.windows.places) == window
        return layer.windows.spread(torch.where(ours[:, None, None], rows, 0))
    if query is None:
        return layer.rows([0])[:, :, 0] if layer.num_queries == 1 else mean_row(layer, readers)
    place = query if isinstance(query, int) else layer.num_prefix_tokens + place_of(layer, query)
    return layer.rows([place])[:, :, 0]


def mean_row(layer: Layer, readers: tuple[int, ...] = ()) -> Float[Tensor, "b h n"]:
    """What the readers attend to on average, or all tokens."""
    if 0 < len(readers) <= MOST_PREFIX_TOKENS:
        return layer.rows(readers).mean(dim=2)
    some = torch.zeros(layer.num_queries, device=layer.seen.device)
    some[list(readers) or slice(None)] = 1 / (len(readers) or layer.num_queries)
    return total((rows.mT @ some[queries].to(rows.dtype)) for queries, rows in layer.chunks())


def place_of(layer: Layer, query: int | tuple[int, int]) -> int:
    """The number of a patch, counted along rows, from its row and column. Raises `UsageError` if there is none."""
    rows, columns = layer.tokens.grid
    row, column = query if isinstance(query, tuple) else divmod(query, columns)
    if not (0 <= row < rows and 0 <= column < columns):
        raise UsageError(
            f"There is no patch at row {row}, column {column}: {layer.name} has {rows} rows and {columns} columns."
        )
    return row * columns + column


def reader(layers: Sequence[Layer], query: Query, readers: tuple[int, ...]) -> str:
    """Who reads, in words."""
    layer = layers[0]
    if isinstance(query, tuple):
        return f"the patch in row {query[0]}, column {query[1]}"
    if query is not None and layer.windows is None:
        role = layer.roles[query]
        return "CLS" if role == "cls" else f"token {query} ({role})"
    if query is not None:
        return f"patch {query}"
    who = list(dict.fromkeys(named_reader(layer, readers) for layer in layers))
    return who[0] if len(who) == 1 else f"{who[0]} (in the last layer {who[-1]})"


def times_uniform(patches: Float[Tensor, "*b g"]) -> Float[Tensor, "*b g"]:
    """Shares of the patches as multiples of what each would get if all were alike; all zero where nothing was given."""
    return patches * patches.shape[-1] / patches.sum(dim=-1, keepdim=True).clamp_min(1e-30)
