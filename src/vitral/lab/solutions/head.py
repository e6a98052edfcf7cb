"""Station 4: one attention head.

    weights = softmax( q kᵀ / √e )            (n, n): row i: how much token i attends to every token
    output  = weights v                       (n, e): a weighted mean of the values

Every token has a query q, a key k and a value v. If a query and a key point in the same direction, their product is
large: the token of the query attends to the token of the key. The scaled products are the scores; softmax turns a row
of scores into weights that are positive and add up to 1. The products of random vectors of e numbers are about √e in
size, so they are divided by √e: otherwise softmax would pick a single token.

`x.mT` swaps the last two axes, `@` multiplies matrices for every image of the batch, `x.softmax(dim=)` runs along one
axis. Later, an axis of heads will come before the tokens: count axes from the end, dim=-1 and dim=-2.

Before you write: all keys are the same vector. What is the output?
    a  the first value        b  zero        c  the mean of the values
"""

from torch import Tensor

prediction = ""  # "a", "b" or "c"


def attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Queries, keys and values (..., n, e) -> output (..., n, e) and weights (..., n, n)."""
    # Yours: scores; softmax; weighted mean.
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
    return weights @ v, weights
