"""How attention goes wrong."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vitral.lab.solutions.head import attention
from vitral.lab.station import Mistake


def products(q: Tensor, k: Tensor) -> Tensor:
    """Scaled, before softmax."""
    return q @ k.mT / q.shape[-1] ** 0.5


def weighing(weigh: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Any]:
    """An `attention` that makes other weights of queries and keys."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        weights = weigh(q, k)
        return weights @ v, weights

    return {"attention": attention}


def ending(end: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """An `attention` that is right up to what it returns."""
    return {"attention": end}


def axis_of_choice(q: Tensor, k: Tensor) -> Tensor:
    """As F.softmax chooses an axis where none is given."""
    return products(q, k).softmax(dim=0 if q.ndim == 3 else 1)


def looking_back(q: Tensor, k: Tensor) -> Tensor:
    later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
    return products(q, k).masked_fill(later, float("-inf")).softmax(dim=-1)


def by_hand(q: Tensor, k: Tensor) -> Tensor:
    powers = products(q, k).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def keys_mixed(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    _, weights = attention(q, k, v)
    return weights @ k, weights


over_queries = Mistake(
    "The softmax runs over the queries: each column of the weights adds up to 1, where each row should.",
    "One token has 1 to give away. Does it stand in a row of the table or in a column, and which axis runs along it?",
    weighing(lambda q, k: products(q, k).softmax(dim=-2)),
)
axis_one = Mistake(
    "The softmax runs along axis 1, counted from the left: with a batch alone these are the queries, and with heads "
    "before the tokens it is the heads.",
    "How can an axis be named so that it is the last one, however many stand before it?",
    weighing(lambda q, k: products(q, k).softmax(dim=1)),
)
no_axis = Mistake(
    "The softmax was not told its axis, and the one that PyTorch chose is the batch's or the heads'.",
    "Along which axis should a token's weights add up to 1? Does your code say so?",
    weighing(axis_of_choice),
)
not_scaled = Mistake(
    "The products were not divided by √e, so that wide queries make softmax pick a single token.",
    "What happens to the products if queries and keys have four times as many numbers?",
    weighing(lambda q, k: (q @ k.mT).softmax(dim=-1)),
)
by_width = Mistake(
    "The products were divided by e, where √e is asked for: wide heads could hardly tell tokens apart.",
    "By how much do products of random vectors grow when they get four times as long: four times, or twice?",
    weighing(lambda q, k: (q @ k.mT / q.shape[-1]).softmax(dim=-1)),
)
by_tokens = Mistake(
    "The products were divided by the root of the number of tokens; e is how many numbers a query has.",
    "Which axis of q does a product add up over?",
    weighing(lambda q, k: (q @ k.mT / q.shape[-2] ** 0.5).softmax(dim=-1)),
)
scaled_after = Mistake(
    "The division by √e comes after the softmax: the weights do not add up to 1 any more.",
    "What should be kept small: what goes into softmax, or what comes out?",
    weighing(lambda q, k: (q @ k.mT).softmax(dim=-1) / q.shape[-1] ** 0.5),
)
keys_ask = Mistake(
    "Keys and queries have changed places: row i of the weights belongs to key i.",
    "Which of the two stands on the left in q kᵀ, and so has the rows?",
    weighing(lambda q, k: (k @ q.mT / q.shape[-1] ** 0.5).softmax(dim=-1)),
)
no_softmax = Mistake(
    "There is no softmax: the products themselves weigh the values, and some are negative.",
    "What makes a row of products into weights that add up to 1?",
    weighing(products),
)
looks_back_only = Mistake(
    "Each token takes from itself and those before it alone, as models that write text do. An image's patches see all.",
    "Is there anything in the two lines of the figure that forbids token 0 to look at token 1?",
    weighing(looking_back),
)
overflowing = Mistake(
    "The softmax was written by hand, and exp of a large product is more than a number can hold: NaN comes out.",
    "What changes in a row's weights if the row's largest product is taken from all of them before exp?",
    weighing(by_hand),
)
keys_given = Mistake(
    "The mean is taken of the keys: the values are not used.",
    "By which of the three is a token found, and which holds what it gives?",
    ending(keys_mixed),
)
products_returned = Mistake(
    "The output is right, but what you return beside it are the products, before the softmax.",
    "Which of your tables has rows that add up to 1?",
    ending(lambda q, k, v: (attention(q, k, v)[0], products(q, k))),
)
other_way_round = Mistake(
    "Both results are right, but come in the other order: the output should be first, then the weights.",
    "In which order does the line below `def attention` name them?",
    ending(lambda q, k, v: attention(q, k, v)[::-1]),
)
times_the_root = Mistake(
    "The products were multiplied by √e, where they should be divided by it: softmax picks a single token all the "
    "sooner.",
    "Does your scale make the products smaller or larger?",
    weighing(lambda q, k: (q @ k.mT * q.shape[-1] ** 0.5).softmax(dim=-1)),
)
weights_turned = Mistake(
    "The weights are right, but were turned before they met the values: each token gets what others take from it.",
    "Row i of the weights is what token i takes. Which row or column meets the values in your product?",
    ending(lambda q, k, v: (attention(q, k, v)[1].mT @ v, attention(q, k, v)[1])),
)
