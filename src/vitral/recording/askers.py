"""Whether the tokens that ask in a call of attention are those that it attends to, in the same order.

As many queries as keys do not make them the same: the queries may be learned, be features, or be pooled otherwise. Two
images differ in some patches. Of two keys that are alike in both, log A[n, m] - log A[n, m'] = q_n · (k_m - k_m') is
another one only if the query n is. So the queries that hold a changed patch can be told, from the weights alone.

Axes:  i images   u units (heads and windows of an image)   r some queries   m key tokens
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SMALLEST = 1e-9  # weights below it say nothing of their logarithm
NOISE = 3e-5  # how much a difference of logarithms changes by rounding
SHARE = 1e-3  # of the largest change: a query whose difference changed less is the same
WRONG = 0.2  # of the queries: so many may change, or not, against what their keys do
MOST_QUERIES = 64  # that are looked at


def some_queries(count: int) -> list[int]:
    """At most `MOST_QUERIES` of so many, from the first to the last."""
    return sorted({round(one) for one in torch.linspace(0, count - 1, min(count, MOST_QUERIES)).tolist()})


def are_the_keys(
    rows: Float[Tensor, "i u r m"], keys_moved: Bool[Tensor, "i u m"], queries: Int[Tensor, " r"]
) -> bool | None:
    """Whether these queries are the keys of the same numbers; None if that cannot be told.

    `rows` are the weights of some queries for an image and others, `keys_moved` which keys are others than in the
    first image. It cannot be told where the weights depend on the place of a token only, or where weights of heads were
    mixed.
    """
    before, after = rows[:1].double(), rows[1:].double()
    usable = (before > SMALLEST) & (after > SMALLEST) & ~keys_moved[1:, :, None]
    change = after.clamp_min(SMALLEST).log() - before.clamp_min(SMALLEST).log()
    spread = change.masked_fill(~usable, -torch.inf).amax(-1) - change.masked_fill(~usable, torch.inf).amin(-1)
    known = usable.sum(-1) > 1
    if (rows < 0).any() or not known.any() or not (after - before).abs().max() > SHARE * before.max():
        return None
    moved = spread > max(NOISE, SHARE * float(spread[known].max()))
    expected = keys_moved[1:][:, :, queries]
    stayed = float((~moved)[known & expected].double().mean()) if (known & expected).any() else 0.0
    strayed = float(moved[known & ~expected].double().mean()) if (known & ~expected).any() else 0.0
    if stayed > WRONG:
        return False
    return True if strayed < WRONG else None  # mixed heads: each row has a part of every head's
