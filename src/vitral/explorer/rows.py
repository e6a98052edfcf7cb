"""The rows of attention of one layer as compressed text, which the page restores when the layer is looked at."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from einops import rearrange

from vitral.explorer.base85 import encode
from vitral.explorer.choice import Choice, Heads
from vitral.explorer.levels import quantise
from vitral.explorer.shown_layer import ShownLayer

TOGETHER = 2**22  # weights formed at a time, 16 MB
SAMPLE = 6  # queries per layer from which the size of a page is estimated
CHARACTERS = 5 / 4  # per byte


@dataclass(frozen=True)
class Part:
    """Some rows of one layer: of each head, or of the mean of heads.

    heads    "each" or "mean"
    queries  the queries, in the page's order of tokens
    text     deflated bytes in base 85: the largest weight of each row (float32, little-endian), then the level of each
             weight; along heads, queries, keys
    num_bytes  of the deflated bytes
    error    the largest error of a weight, as a share of its row's largest
    largest  the largest value of a map of these rows, in multiples of uniform attention
    """

    heads: Heads
    queries: tuple[int, ...]
    text: str
    num_bytes: int
    error: float
    largest: float

    def to_json(self, name: str, query_sets: list[tuple[int, ...]]) -> dict[str, Any]:
        """How the page finds it: `name` is the element with its text, `queries` a place in the list of such sets."""
        if self.queries not in query_sets:
            query_sets.append(self.queries)
        return {"id": name, "heads": self.heads, "queries": query_sets.index(self.queries), "bytes": self.num_bytes}


def encode_layer(layer: ShownLayer, choice: Choice, place: int, count: int) -> list[Part]:
    """The rows of the layer at this place among `count` that a choice keeps."""
    return [encode_part(layer, heads, queries) for heads, queries in choice.parts(layer, place, count)]


def encode_part(layer: ShownLayer, heads: Heads, queries: Sequence[int]) -> Part:
    step = max(1, TOGETHER // (layer.num_heads * layer.num_keys))
    largest, levels, errors, peaks = [], [], [], [0.0]
    for start in range(0, len(queries), step):
        rows = layer.rows(queries[start : start + step])
        if heads == "mean":
            rows = rows.mean(axis=0, keepdims=True)
        patches = rows[..., len(layer.prefix) :]
        peaks.append(float((patches.max(-1) * patches.shape[-1] / np.maximum(patches.sum(-1), 1e-30)).max()))
        shape = rows.shape[:2]
        some_largest, some_levels, error = quantise(rearrange(rows, "h q n -> (h q) n"))
        largest.append(some_largest.reshape(shape))
        levels.append(some_levels.reshape(*shape, -1))
        errors.append(error)
    # Along heads first, so that neighbours in the file are neighbours in the image.
    content = np.concatenate(largest, axis=1).astype("<f4").tobytes() + np.concatenate(levels, axis=1).tobytes()
    packed = zlib.compress(content, 6)
    return Part(heads, tuple(queries), encode(packed), len(packed), max(errors, default=0.0), max(peaks))


def sample_part(layer: ShownLayer) -> Part:
    """The rows of a few queries of a layer, in all heads."""
    every = layer.prefix_queries + layer.patch_queries(1)
    some = [every[int((number + 0.5) * len(every) / SAMPLE)] for number in range(SAMPLE)]
    return encode_part(layer, "each", sorted(set(some)))


def characters_per_weight(layers: Sequence[ShownLayer]) -> float:
    """How many characters of a page a weight takes, measured on a few queries of each layer."""
    taken, weights = 0.0, 0
    for layer in layers:
        part = sample_part(layer)
        taken += part.num_bytes * CHARACTERS
        weights += layer.num_heads * len(part.queries) * layer.num_keys
    return taken / weights
