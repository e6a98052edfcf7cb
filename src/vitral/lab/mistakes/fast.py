"""Mistakes in fused attention, and in the class token's row."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vitral.lab.station import mistake


def score(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / q.shape[-1] ** 0.5


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return score(q, k).softmax(dim=-1) @ v


@mistake("fast_attention")
def weights_formed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The numbers are right, but the code forms a matrix of n x n weights, as in station 4.

    How many numbers does q kᵀ have for 4,096 tokens? Which function of PyTorch works without it?
    """
    return attend(q, k, v)


@mistake("fast_attention")
def three_axes(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The kernel gets three axes, (b, n, e): without the axis of the heads PyTorch forms the matrix of weights.

    How many axes does q have in the signature? How many in your call?
    """
    heads = zip(q.unbind(dim=1), k.unbind(dim=1), v.unbind(dim=1))
    return torch.stack([F.scaled_dot_product_attention(*own) for own in heads], dim=1)


@mistake("fast_attention")
def loop_over_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The numbers are right and no matrix is formed, but a Python loop runs over the queries, which takes longer than
    the matrix.

    How many calls does your code make for 1,024 tokens? What could run over them instead of Python?
    """
    return torch.cat([attend(query, k, v) for query in q.split(1, dim=2)], dim=2)


@mistake("fast_attention")
def scaled_twice(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The queries are divided by √e before the kernel, which divides by √e itself.

    What does F.scaled_dot_product_attention do without the argument `scale`?
    """
    return F.scaled_dot_product_attention(q / q.shape[-1] ** 0.5, k, v)


@mistake("fast_attention")
def scale_taken_away(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The kernel is called with scale=1, so that the scores are not divided by √e.

    By what does the kernel multiply the scores by default?
    """
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


@mistake("fast_attention")
def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`is_causal` is on: each token attends only to itself and those before it. That is for text, which is written
    word by word; in an image every patch attends to all.

    What does your first token attend to, besides itself?
    """
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@mistake("fast_attention")
def always_dropped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`dropout_p` is on. The kernel is a function and does not know whether the model is training, so it always drops.

    Call your function twice with the same arguments. Is the result the same?
    """
    return F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)


@mistake("fast_attention")
def tokens_for_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Heads and tokens are swapped: the heads of each token attend to one another.

    Which two of the four axes does the kernel take as tokens and width? Which two are there in your call?
    """
    q, k, v = (own.transpose(1, 2) for own in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


@mistake("fast_attention")
def asked_the_wrong_way(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Queries and keys are swapped.

    In which order does the kernel take its three arguments?
    """
    return F.scaled_dot_product_attention(k, q, v)


@mistake("fast_attention")
def sixteen_bits(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The numbers are rounded to 16 bits on the way: faster on some machines, but not the same numbers.

    How many digits of your output agree with the attention of station 4? Where are the others lost?
    """
    return F.scaled_dot_product_attention(q.bfloat16(), k.bfloat16(), v.bfloat16()).to(q.dtype)


@mistake("fast_attention")
def no_gradients(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Gradients are switched off: that is faster, but nothing can be trained through it.

    After loss.backward(), what would the `grad` of the queries be?
    """
    with torch.no_grad():
        return F.scaled_dot_product_attention(q, k, v)


@mistake("cls_row")
def matrix_for_a_row(q: Tensor, k: Tensor) -> Tensor:
    """The numbers are right, but the code forms a tensor of n x n numbers.

    Which of your tensors has two axes of length n?
    """
    return score(q, k).softmax(dim=-1)[:, :, 0]


@mistake("cls_row")
def row_not_scaled(q: Tensor, k: Tensor) -> Tensor:
    """The scores of the row are not divided by √e, so that it differs from the row that attention uses.

    The kernel divides by √e itself. Does your own product?
    """
    return (q[:, :, :1] @ k.mT).softmax(dim=-1)[:, :, 0]


@mistake("cls_row")
def softmax_of_one(q: Tensor, k: Tensor) -> Tensor:
    """The softmax runs over the axis of the queries, which has length 1 here, so that every weight is 1.

    Along which axis of (b, heads, 1, n) should the weights add up to 1?
    """
    return score(q[:, :, :1], k).softmax(dim=-2)[:, :, 0]


@mistake("cls_row")
def column_for_row(q: Tensor, k: Tensor) -> Tensor:
    """The first key is used instead of the first query: the result says which tokens attend to the class token.

    The class token attends to the others. Is it then a query or a key?
    """
    return score(q, k[:, :, :1]).softmax(dim=-2)[..., 0]
