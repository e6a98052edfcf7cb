"""The weights of one layer as a live host asks for them: of one query, or of one key, in all heads.

A query's are one row, which the layer forms from its q and k. A key's are one weight of each row, so all rows are
formed; they are kept in half precision, up to a limit, so that the next key is quick.

Axes:  h heads   q queries   n keys
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Float16

from vitral.base.errors import UsageError
from vitral.explorer.rows import TOGETHER
from vitral.explorer.shown_layer import ShownLayer, window_and_token

LIMIT = 1_200_000_000  # bytes of rows that are kept: a little more than those of ViT-B with 1,370 tokens
ERROR = 2.0**-11  # half precision rounds a weight by at most this share of itself


@dataclass(frozen=True)
class FormedRows:
    """All rows of a layer, and the sum of each on patches."""

    weights: Float16[np.ndarray, "h q n"]
    on_patches: Float[np.ndarray, "h q"]


@dataclass
class FormedLayers:
    """The rows that were formed of one image's layers, by the layer's number, of at most `limit` bytes together."""

    limit: int = LIMIT
    layers: dict[int, FormedRows] = field(default_factory=dict)

    def column(self, layer: ShownLayer, key: int) -> Float[np.ndarray, "2 h q"]:
        """What attends to a key: the weight that each query gives it, and the sum of the query's row on patches.

        In attention within windows, a key is a patch, and the queries are the patches of its window in their order.
        Raises `UsageError` for a key that does not exist.
        """
        queries, place = find_key(layer, key)
        if layer.number not in self.layers and self.size + rows_size(layer) <= self.limit:
            self.layers[layer.number] = form_rows(layer)
        if formed := self.layers.get(layer.number):
            weights = formed.weights[:, queries, place].astype(np.float32)
            return np.stack([weights, formed.on_patches[:, queries]])
        parts = [np.stack([rows[..., place], sums]) for _, rows, sums in chunks(layer, queries)]
        return np.concatenate(parts, axis=-1)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return sum(formed.weights.nbytes + formed.on_patches.nbytes for formed in self.layers.values())


def row(layer: ShownLayer, query: int) -> Float[np.ndarray, "h n"]:
    """What a query attends to. Raises `UsageError` for a query that does not exist."""
    if not 0 <= query < layer.num_queries:
        raise UsageError(f"{layer.name} has no query {query}: it has {layer.num_queries}, from 0.")
    with torch.no_grad():
        return layer.rows([query])[:, 0].astype(np.float32)


def rows_size(layer: ShownLayer) -> int:
    """Bytes of all rows of a layer, in half precision, and of their sums."""
    return layer.num_heads * layer.num_queries * (2 * layer.num_keys + 4)


def find_key(layer: ShownLayer, key: int) -> tuple[list[int], int]:
    """The queries that can attend to a key, and its place in their rows."""
    count = layer.num_queries if layer.windows is not None else layer.num_keys
    if not 0 <= key < count:
        raise UsageError(f"{layer.name} has no key {key}: it has {count}, from 0.")
    if layer.windows is None:
        return list(range(layer.num_queries)), key
    window, token = window_and_token(layer.windows)
    places = layer.windows.places[int(window[key])].tolist()
    return [patch for patch in places if patch >= 0], int(token[key])


def chunks(
    layer: ShownLayer, queries: list[int]
) -> Iterator[tuple[slice, Float[np.ndarray, "h q n"], Float[np.ndarray, "h q"]]]:
    """The rows of some queries, a few at a time, with their sums on patches."""
    step = max(1, TOGETHER // (layer.num_heads * layer.num_keys))
    with torch.no_grad():
        for start in range(0, len(queries), step):
            some = queries[start : start + step]
            rows = layer.rows(some).astype(np.float32)
            if layer.windows is None:
                sums = rows[..., len(layer.prefix) :].sum(axis=-1)
            else:
                real = np.stack([layer.places_of(query) >= 0 for query in some])
                sums = (rows * real).sum(axis=-1)
            yield slice(start, start + len(some)), rows, sums


def form_rows(layer: ShownLayer) -> FormedRows:
    """All rows of a layer."""
    shape = layer.num_heads, layer.num_queries
    formed = FormedRows(np.empty((*shape, layer.num_keys), np.float16), np.empty(shape, np.float32))
    for where, rows, sums in chunks(layer, list(range(layer.num_queries))):
        formed.weights[:, where] = rows
        formed.on_patches[:, where] = sums
    return formed
