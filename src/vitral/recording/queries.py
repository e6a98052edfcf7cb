"""What a query attends to in one layer: a token, a patch, or the tokens from which the prediction is read.

Axes:  b images   w windows   h heads   n tokens   r m query, key tokens   gy gx rows, columns of patches
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitral.base.errors import UsageError
from vitral.recording.deduced_roles import MOST_PREFIX_TOKENS
from vitral.recording.indices import Grid, check_patch, is_index, is_pair
from vitral.recording.layers import Layer, sum_chunks
from vitral.recording.windows import Windows

Query = int | Grid | None  # a token's index, a patch's row and column, or what the prediction is read from


def check_query(query: Any) -> Query:
    """The query. Raises `UsageError` for what is neither a token's index nor a patch's row and column."""
    if is_index(query):
        return int(query)
    if is_pair(query):
        return int(query[0]), int(query[1])
    if query is not None:
        raise UsageError(f"query={query!r} is neither a token's index nor the (row, column) of a patch.")
    return None


def query_row(
    layer: Layer, query: Query, readout: Sequence[int] = (), of_each: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, "b h n"]:
    """The weights of the query, or the mean over the readout tokens: per token, or per patch for windows.

    `of_each` marks the readout tokens of each image, where these differ; for windows the patches, where not all are.
    """
    return query_row_and_padding(layer, query, readout, of_each)[0]


def query_row_and_padding(
    layer: Layer, query: Query, readout: Sequence[int] = (), of_each: Bool[Tensor, "b n"] | None = None
) -> tuple[Float[Tensor, "b h n"], Float[Tensor, "b h"]]:
    """See `query_row`; and the share of this attention that is on the padding of windows."""
    if layer.windows is not None:
        rows = row_per_window(layer, layer.windows, query, of_each)
        return layer.windows.spread(rows), layer.windows.share_of_padding(rows)
    if query is None and of_each is not None:
        share = of_each / of_each.sum(dim=1, keepdim=True)
        row = sum_chunks(
            torch.einsum("bhrm,br->bhm", rows, share[:, queries].to(rows.dtype)) for queries, rows in layer.chunks()
        )
    elif query is None:
        row = mean_row(layer, readout)
    else:
        row = layer.rows([query if isinstance(query, int) else patch_token(layer, query)])[:, :, 0]
    padding = layer.kept_padding if query is None else None
    return row, row.new_zeros(row.shape[:2]) if padding is None else padding


def row_per_window(
    layer: Layer, windows: Windows, query: Query, of_each: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, "bw h m"]:
    """The weights of the query over the tokens of each window: zero in all windows but the query's own, or the sum
    over the readout patches."""
    if query is None:
        return mean_row_per_window(layer, windows, of_each)
    window, token = windows.locate(patch_number(layer, query))
    rows = layer.rows([token])[:, :, 0]
    # Windows lie along the batch, image by image.
    own = torch.arange(len(rows), device=rows.device) % len(windows.places) == window
    return torch.where(own[:, None, None], rows, 0)


def mean_row(layer: Layer, tokens: Sequence[int] = ()) -> Float[Tensor, "b h n"]:
    """What these tokens attend to on average; all tokens if none are given."""
    if layer.kept_mean is not None and tuple(tokens) == layer.mean_of:
        return layer.kept_mean
    if 0 < len(tokens) <= MOST_PREFIX_TOKENS:
        return layer.rows(tokens).mean(dim=2)
    if layer.num_queries == 1:
        return layer.rows([0])[:, :, 0]
    share = readout_vector(layer, tokens) / (len(tokens) or layer.num_queries)
    return sum_chunks((rows.mT @ share[queries].to(rows.dtype)) for queries, rows in layer.chunks())


def readout_vectors(
    layer: Layer, tokens: Sequence[int], of_each: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, "_ n"]:
    """1 for each readout token, else 0, in a row for each image, or in one where the images are alike."""
    return readout_vector(layer, tokens)[None] if of_each is None else of_each.float()


def readout_vector(layer: Layer, tokens: Sequence[int]) -> Float[Tensor, " n"]:
    """1 for each of these queries, or for all if none are given, else 0."""
    vector = torch.zeros(layer.num_queries, device=layer.kept_rows.device)
    vector[list(tokens) or slice(None)] = 1
    return vector


def mean_row_per_window(
    layer: Layer, windows: Windows, of_each: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, "bw h m"]:
    """The sum of each window's rows, a row per token of the image; padding attends too, but is not counted.

    With `of_each`, a row per patch that an image is read from.
    """
    real = (windows.places >= 0).repeat(len(layer.kept_rows) // len(windows.places), 1).to(layer.kept_rows.device)
    if of_each is not None:
        real &= of_each[:, windows.places.clamp_min(0)].flatten(0, 1).to(real.device)
    return sum_chunks(
        torch.einsum("bhrm,br->bhm", rows, real[:, queries].to(rows.dtype)) for queries, rows in layer.chunks()
    )


def patch_token(layer: Layer, patch: Grid) -> int:
    """The token of a patch. Raises `UsageError` if there is none, or queries are not the tokens themselves."""
    if not layer.queries_are_keys:
        queries = "one learned query" if layer.num_queries == 1 else f"{layer.num_queries} queries"
        raise UsageError(
            f"{layer.name} has {queries} for {layer.num_tokens} tokens, so no query can be identified with the patch "
            f"in row {patch[0]}, column {patch[1]}. Choose layers whose tokens attend to each other: layer= or "
            "layers=[...]."
        )
    return layer.tokens.patch_tokens[patch_number(layer, patch)]


def patch_number(layer: Layer, query: int | Grid) -> int:
    """The number of a patch, counted along rows, from its row and column. Raises `UsageError` if there is none."""
    columns = layer.tokens.grid[1]
    patch = query if isinstance(query, tuple) else divmod(query, columns)
    row, column = check_patch(patch, layer.tokens.grid, layer.name)
    return row * columns + column


def query_name(layer: Layer, query: int | Grid) -> str:
    """The query in words."""
    if isinstance(query, tuple):
        return f"the patch in row {query[0]}, column {query[1]}"
    if not layer.queries_are_keys:
        return f"query {query} of {layer.num_queries}"
    if layer.windows is not None:
        return f"patch {query}"
    role = layer.roles[query]
    return "CLS" if role == "cls" else f"token {query} ({role})"
