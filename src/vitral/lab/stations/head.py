"""The tests of station 4: `attention`."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.recorder import Recorder
from vitral.lab.replacements import AttentionWith
from vitral.lab.station import Pair, RightPrediction, Station, law


def draw_inputs(recorder: Recorder) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values."""
    tokens, width = recorder.integer(5, 6), recorder.integer(2, 4)
    q, k, v = (recorder.normal(2, tokens, width) for _ in range(3))
    return q, k, v


def observe(recorder: Recorder) -> None:
    q, k, v = draw_inputs(recorder)
    recorder.call("attention", q, k, v)
    recorder.call("attention", *(recorder.normal(2, 3, 5, 4) for _ in range(3)))
    recorder.call("attention", 100 * q, 100 * k, v)


@law()
def weights_add_up(recorder: Recorder) -> Pair:
    """The weights of each token are positive and add up to 1, over the tokens that it attends to."""
    q, k, v = (recorder.normal(2, 3, 5, 4) for _ in range(3))
    _, weights = recorder.call("attention", q, k, v)
    return weights.abs().sum(dim=-1), torch.ones_like(q[..., 0])


@law()
def mean_by_weights(recorder: Recorder) -> Pair:
    """The output is the mean of the values, weighted by the weights that are returned with it."""
    q, k, v = draw_inputs(recorder)
    output, weights = recorder.call("attention", q, k, v)
    return output, torch.einsum("bij,bje->bie", weights, v)


@law()
def same_keys(recorder: Recorder) -> Pair:
    """If all keys are equal, the output of every token is the mean of the values."""
    q, k, v = draw_inputs(recorder)
    output, _ = recorder.call("attention", q, k[:, :1].expand_as(k), v)
    return output, v.mean(dim=1, keepdim=True).expand_as(v)


@law()
def keys_with_values(recorder: Recorder) -> Pair:
    """Keys and values in another order, the same for both, do not change the output."""
    q, k, v = draw_inputs(recorder)
    order = recorder.permutation(q.shape[1])
    return recorder.call("attention", q, k[:, order], v[:, order])[0], recorder.call("attention", q, k, v)[0]


@law()
def each_query_by_itself(recorder: Recorder) -> Pair:
    """A change in the first query changes the output of the first token only."""
    q, k, v = draw_inputs(recorder)
    other = torch.cat([recorder.normal(*q[:, :1].shape), q[:, 1:]], dim=1)
    return recorder.call("attention", other, k, v)[0][:, 1:], recorder.call("attention", q, k, v)[0][:, 1:]


@law()
def keys_moved(recorder: Recorder) -> Pair:
    """The same vector added to all keys changes no weight."""
    q, k, v = draw_inputs(recorder)
    moved = k + recorder.normal(2, 1, k.shape[-1])
    return recorder.call("attention", q, moved, v)[1], recorder.call("attention", q, k, v)[1]


@law()
def twice_beside(recorder: Recorder) -> Pair:
    """The scores are divided by √e, where e is how many numbers a query has (tested with each query and key repeated
    side by side).
    """
    q, k, v = draw_inputs(recorder)
    wide = (torch.cat([own, own], dim=-1) for own in (q, k, v))
    return recorder.call("attention", *wide)[1], recorder.call("attention", 2**0.5 * q, k, v)[1]


def insert(model: Any, answer: Any) -> nn.Module:
    for block in model.blocks:
        block.attn = AttentionWith(lambda q, k, v: answer.attention(q, k, v)[0], block.attn)
    return model


head = Station(
    number=4,
    title="One attention head",
    minutes=20,
    difficulty=3,
    prediction=RightPrediction(
        "c",
        "A query has the same product with every key, so softmax makes every weight 1 / n, and the weighted mean is "
        "the plain mean.",
    ),
    hints=(
        "Begin with the scores: n queries and n keys of e numbers each have a table of n x n products. Row i holds the "
        "products of query i with every key.",
        "k.mT is (..., e, n), so q @ k.mT is the table. Divide it by the root of e, which is q.shape[-1]. The weights "
        "of one token are a row, and a row runs along the last axis.",
        "Three steps: the table divided, its softmax along the last axis, and that times v. The type after -> shows "
        "what to return, and in which order.",
    ),
    observe=observe,
    insert=insert,
)
