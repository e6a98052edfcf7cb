"""Station 4: one attention head.

    weights = softmax( q kᵀ / √e )            (n, n): row i says how much token i takes from every token
    output  = weights v                       (n, e): a weighted mean of what the tokens hold

Every token asks with a query q, is found by its key k and gives its value v. A query and a key that point the same way
have a large product; softmax makes a row of products into weights that are positive and add up to 1. The products of
random vectors of e numbers are about √e in size, so they are divided by it: otherwise softmax would soon pick a single
token.

`x.mT` swaps the last two axes, `@` multiplies matrices for every image of the batch, `x.softmax(dim=)` runs along one
axis. Later, heads will stand before the tokens: count axes from the end, dim=-1 and dim=-2.

Before you write: all keys are the same vector. What is the output?
    a  the first value        b  zero        c  the mean of the values
"""

from torch import Tensor

prediction = "c"  # "a", "b" or "c"


def attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Queries, keys and values (..., n, e) -> output (..., n, e) and weights (..., n, n)."""
    scale = q.shape[-1] ** 0.5
    scores = q @ k.mT / scale
    weights = scores.softmax(dim=-1)
    return weights @ v, weights
