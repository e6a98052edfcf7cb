"""Mistakes in one attention head: the scores, the softmax, and the weighted mean."""

import torch
from torch import Tensor

from vitral.lab.solutions.head import attention
from vitral.lab.station import mistake

Result = tuple[Tensor, Tensor]


def score(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / q.shape[-1] ** 0.5


def average(weights: Tensor, v: Tensor) -> Result:
    return weights @ v, weights


@mistake("attention")
def over_queries(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The softmax runs over the queries: each column of the weights adds up to 1, but each row should.

    Does one token's attention fill a row of the table or a column? Which axis runs along it?
    """
    return average(score(q, k).softmax(dim=-2), v)


@mistake("attention")
def axis_one(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The softmax runs along axis 1, counted from the left: these are the queries if there is only a batch, and the
    heads if heads come before the tokens.

    How do you name the last axis, however many come before it?
    """
    return average(score(q, k).softmax(dim=1), v)


@mistake("attention")
def no_axis(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The softmax has no axis, and the one that PyTorch chose is that of the batch or of the heads.

    Along which axis should the weights of a token add up to 1? Does your code say so?
    """
    return average(score(q, k).softmax(dim=0 if q.ndim == 3 else 1), v)  # as F.softmax chooses without `dim`


@mistake("attention")
def not_scaled(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The scores are not divided by √e, so that with wide heads softmax picks a single token.

    What happens to the products if queries and keys have four times as many numbers?
    """
    return average((q @ k.mT).softmax(dim=-1), v)


@mistake("attention")
def by_width(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The scores are divided by e instead of √e: the weights of wide heads would be nearly equal.

    How much do products of random vectors grow when the vectors get four times as long: four times, or twice?
    """
    return average((q @ k.mT / q.shape[-1]).softmax(dim=-1), v)


@mistake("attention")
def by_tokens(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The scores are divided by the root of the number of tokens; e is how many numbers a query has.

    Over which axis of q does a product of query and key sum?
    """
    return average((q @ k.mT / q.shape[-2] ** 0.5).softmax(dim=-1), v)


@mistake("attention")
def scaled_after(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The division by √e comes after the softmax, so that the weights no longer add up to 1.

    Which numbers should be kept small: those that go into softmax, or those that come out?
    """
    return average((q @ k.mT).softmax(dim=-1) / q.shape[-1] ** 0.5, v)


@mistake("attention")
def keys_ask(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """Keys and queries are swapped: row i of the weights belongs to key i.

    Which of the two is on the left in q kᵀ, and so determines the rows?
    """
    return average((k @ q.mT / q.shape[-1] ** 0.5).softmax(dim=-1), v)


@mistake("attention")
def no_softmax(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """There is no softmax: the scores themselves are the weights, and some are negative.

    What turns a row of scores into weights that add up to 1?
    """
    return average(score(q, k), v)


@mistake("attention")
def looks_back_only(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """Each token attends only to itself and to those before it, as in models that write text. In an image every patch
    attends to all.

    Does anything in the two lines of the figure keep token 0 from attending to token 1?
    """
    later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
    return average(score(q, k).masked_fill(later, float("-inf")).softmax(dim=-1), v)


@mistake("attention")
def overflowing(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The softmax is written by hand, and exp of a large score overflows: the result is NaN.

    What changes in a row's weights if the row's largest score is subtracted from all of them before exp?
    """
    powers = score(q, k).exp()
    return average(powers / powers.sum(dim=-1, keepdim=True), v)


@mistake("attention")
def keys_given(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The output is the weighted mean of the keys; it should be that of the values.

    Which of the three decides how much attention a token gets, and which holds what it passes on?
    """
    weights = attention(q, k, v)[1]
    return weights @ k, weights


@mistake("attention")
def products_returned(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The output is right, but the second result is the scores before the softmax, not the weights.

    Which of your tables has rows that add up to 1?
    """
    return attention(q, k, v)[0], score(q, k)


@mistake("attention")
def other_way_round(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """Both results are right, but in the wrong order: first the output, then the weights.

    In which order does the line below `def attention` name them?
    """
    return attention(q, k, v)[::-1]


@mistake("attention")
def times_the_root(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The scores are multiplied by √e; they should be divided by it. As it is, softmax picks a single token even
    sooner.

    Does your scale make the products smaller or larger?
    """
    return average((q @ k.mT * q.shape[-1] ** 0.5).softmax(dim=-1), v)


@mistake("attention")
def weights_turned(q: Tensor, k: Tensor, v: Tensor) -> Result:
    """The weights are right, but are transposed before the product with the values: each token gets what others
    should take from it.

    Row i of the weights says how much token i takes from each token. Which rows multiply the values in your product?
    """
    weights = attention(q, k, v)[1]
    return weights.mT @ v, weights
