"""How fast attention becomes slow, or something else."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitral.lab.station import Mistake


def attend_by(attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Mapping[str, Any]:
    return {"fast_attention": attend}


def row_by(row: Callable[[Tensor, Tensor], Tensor]) -> Mapping[str, Any]:
    return {"cls_row": row}


def logits(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / q.shape[-1] ** 0.5


def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return logits(q, k).softmax(dim=-1) @ v


def query_by_query(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.cat([written_out(query, k, v) for query in q.split(1, dim=2)], dim=2)


def head_by_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = zip(q.unbind(dim=1), k.unbind(dim=1), v.unbind(dim=1))
    return torch.stack([F.scaled_dot_product_attention(*own) for own in heads], dim=1)


def heads_for_tokens(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (own.transpose(1, 2) for own in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def rounded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q.bfloat16(), k.bfloat16(), v.bfloat16()).to(q.dtype)


@torch.no_grad()
def without_gradients(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


weights_formed = Mistake(
    "The numbers are right, but a whole matrix of n x n numbers is formed on the way, as in station 4.",
    "How many numbers has q kᵀ for 4,096 tokens? Which function of PyTorch goes on without it?",
    attend_by(written_out),
)
three_axes = Mistake(
    "The kernel was given three axes, (b, n, e): without the heads' axis PyTorch writes the weights out.",
    "How many axes does the signature give q? How many does your call?",
    attend_by(head_by_head),
)
loop_over_queries = Mistake(
    "The numbers are right and no matrix is formed, but Python goes over the queries one by one, which takes longer "
    "than the matrix did.",
    "How many calls does yours make for 1,024 tokens? Who could go over them instead of Python?",
    attend_by(query_by_query),
)
scaled_twice = Mistake(
    "The queries were divided by √e before the kernel, which divides by √e itself.",
    "What does F.scaled_dot_product_attention do when its `scale` is not given?",
    attend_by(lambda q, k, v: F.scaled_dot_product_attention(q / q.shape[-1] ** 0.5, k, v)),
)
scale_taken_away = Mistake(
    "The kernel was told a scale of one: the logits are not divided by √e.",
    "By what does the kernel multiply the logits if you let it choose?",
    attend_by(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=1.0)),
)
causal = Mistake(
    "`is_causal` is on: each token sees only those before it. That is for text that is written word by word; in an "
    "image every patch may see every other.",
    "What does your first token attend to, beside itself?",
    attend_by(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
)
always_dropped = Mistake(
    "`dropout_p` is on. As a function the kernel does not know whether the model trains, so it drops every time.",
    "Call yours twice with the same. Does it give the same?",
    attend_by(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)),
)
tokens_for_heads = Mistake(
    "Heads and tokens have changed places: within each token its heads attend to one another.",
    "Of the four axes, which two does the kernel take for tokens and width? Which stands there in yours?",
    attend_by(heads_for_tokens),
)
asked_the_wrong_way = Mistake(
    "Queries and keys have changed places: what a token should ask with was taken for what it answers with.",
    "In which order does the kernel take its three arguments?",
    attend_by(lambda q, k, v: F.scaled_dot_product_attention(k, q, v)),
)
sixteen_bits = Mistake(
    "The numbers were rounded to 16 bits on the way: faster on some machines, but no longer the same numbers.",
    "How many digits of your output agree with what is written out? Where did the others go?",
    attend_by(rounded),
)
no_gradients = Mistake(
    "Gradients were switched off: it is faster because nothing can be learned through it.",
    "After loss.backward(), what would the `grad` of the queries be?",
    attend_by(without_gradients),
)
matrix_for_a_row = Mistake(
    "The numbers are right, but a tensor of n x n numbers is formed on the way.",
    "Which tensor of yours has both axes n?",
    row_by(lambda q, k: logits(q, k).softmax(dim=-1)[:, :, 0]),
)
row_not_scaled = Mistake(
    "The row's logits are not divided by √e: it is another row than the one that attention uses.",
    "The kernel divides without being told to. Does your own product?",
    row_by(lambda q, k: (q[:, :, :1] @ k.mT).softmax(dim=-1)[:, :, 0]),
)
softmax_of_one = Mistake(
    "The softmax runs over the axis of queries, which has one entry here: every weight became one.",
    "Which axis of (b, heads, 1, n) should be one in sum?",
    row_by(lambda q, k: logits(q[:, :, :1], k).softmax(dim=-2)[:, :, 0]),
)
column_for_row = Mistake(
    "The first key was taken, not the first query: yours says who attends to the class token.",
    "The class token does the asking. Which of q and k is asked with?",
    row_by(lambda q, k: logits(q, k[:, :, :1]).softmax(dim=-2)[..., 0]),
)
