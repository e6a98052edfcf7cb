"""Whether the tokens that ask in a call of attention are those that it attends to, in the same order.

As many queries as keys do not make them the same: the queries may be learned, be features, or be pooled otherwise. Two
images differ in some patches. Of two keys that are alike in both, log A[n, m] - log A[n, m'] = q_n · (k_m - k_m') is
another one only if the query n is. So the queries that hold a changed patch can be told, from the weights alone.

Axes:  i images   u units (heads and windows of an image)   r some queries   m key tokens
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from vitral.recording.places import MOVED

SMALLEST = 1e-9  # weights below it say nothing of their logarithm
NOISE = 3e-5  # how much a difference of logarithms changes by rounding
SHARE = 1e-3  # of the largest change: a query whose difference changed less is the same
LEAST_LEAK = 1e-4  # of the way: keys of which none leaks more are judged one by one
ALIKE, STANDS_OUT = 1.25, 1.6  # how much more queries change that moved than others, where the keys leak
LEAST_MOVE = 0.1  # of the way: merged tokens move by a quarter or more
UNCLEAR = 0.2  # of the way: how far a token of one patch may be from all of it
WRONG = 0.2  # of the queries: so many may change, or not, against what their keys do
MOST_QUERIES = 64  # that are looked at


def some_queries(count: int) -> list[int]:
    """At most `MOST_QUERIES` of so many, from the first to the last."""
    return sorted({round(one) for one in torch.linspace(0, count - 1, min(count, MOST_QUERIES)).tolist()})


@dataclass(frozen=True)
class MovedKeys:
    """How far each key's values moved from A's, in B and in each mixture, as a fraction of the distance from A to B.

    A model that normalises over the whole image moves every key a little: that is no move, but a leak.
    """

    way: Float[Tensor, "j u m"]

    @classmethod
    def of(cls, values: Float[Tensor, "i u m e"]) -> "MovedKeys":
        """From the values for A, B, and the mixtures."""
        change = (values[1:] - values[:1]).norm(dim=-1)
        distance, largest = change[:1], change[:1].max()
        return cls(change / torch.where(distance > MOVED * largest, distance, largest).clamp_min(1e-30))

    @property
    def moved(self) -> Bool[Tensor, "j u m"]:
        return self.way > LEAST_MOVE

    @property
    def leak(self) -> float:
        """How far those went, at most, that did not move."""
        return float(self.way.masked_fill(self.moved, 0).max())

    @property
    def is_clear(self) -> bool:
        """Whether each moved nearly all the way, or not."""
        return bool(((self.way - 1).abs() < UNCLEAR)[self.moved].all())


def are_the_keys(rows: Float[Tensor, "i u r m"], keys: MovedKeys, queries: Int[Tensor, " r"]) -> bool | None:
    """Whether these queries are the keys of the same numbers; None if that cannot be told.

    `rows` are the weights of some queries for an image and others. It cannot be told where the weights depend on the
    place of a token only, or where weights of heads were mixed.
    """
    before, after = rows[:1].double(), rows[1:].double()
    usable = (before > SMALLEST) & (after > SMALLEST) & ~keys.moved[:, :, None]
    start = before.clamp_min(SMALLEST).log()
    # Of keys that are all the same, such as padding, no query can be told.
    known = (usable.sum(-1) > 1) & (spread_over(start.expand_as(usable), usable) > NOISE)
    # Nor of heads whose weights depend on the place of a token only.
    known &= ((after - before).abs().amax(dim=(0, 2, 3)) > SHARE * before.max())[:, None]
    spread = spread_over(after.clamp_min(SMALLEST).log() - start, usable)
    if (rows < 0).any() or not known.any():
        return None
    expected = keys.moved[:, :, queries]
    if keys.leak > LEAST_LEAK:
        return are_the_leaking_keys(spread, known, expected)
    moved = spread > max(NOISE, SHARE * float(spread[known].max()))
    stayed = mean_where(~moved, known & expected)
    if stayed > WRONG:
        return False
    return True if mean_where(moved, known & ~expected) < WRONG else None  # mixed heads: each row has a part of all


def are_the_leaking_keys(
    spread: Float[Tensor, "j u r"], known: Bool[Tensor, "j u r"], expected: Bool[Tensor, "j u r"]
) -> bool | None:
    """See `are_the_keys`: keys that leak change the weights of every query a little, whether it moved or not."""
    if not (known & expected).any() or not (known & ~expected).any():
        return None
    more = mean_where(spread, known & expected) / max(NOISE, mean_where(spread, known & ~expected))
    return True if more > STANDS_OUT else False if more < ALIKE else None


def spread_over(values: Float[Tensor, "j u r m"], mask: Bool[Tensor, "j u r m"]) -> Float[Tensor, "j u r"]:
    """The largest less the smallest value in the mask, of each row."""
    return values.masked_fill(~mask, -torch.inf).amax(-1) - values.masked_fill(~mask, torch.inf).amin(-1)


def mean_where(values: Shaped[Tensor, "j u r"], mask: Bool[Tensor, "j u r"]) -> float:
    """The mean of the values in the mask; 0 if there are none."""
    return float(values[mask].double().mean()) if mask.any() else 0.0
