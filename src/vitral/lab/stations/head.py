"""Station 4: `attention`."""

from typing import Any

import torch
from torch import Tensor, nn

from vitral.lab.graft import AttentionBy
from vitral.lab.inspection import Inspection
from vitral.lab.station import Law, Pair, Prediction, Station


def drawn(inspection: Inspection) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values."""
    tokens, width = inspection.integer(5, 6), inspection.integer(2, 4)
    q, k, v = (inspection.normal(2, tokens, width) for _ in range(3))
    return q, k, v


def observe(inspection: Inspection) -> None:
    q, k, v = drawn(inspection)
    inspection.ask("attention", q, k, v)
    inspection.ask("attention", *(inspection.normal(2, 3, 5, 4) for _ in range(3)))
    inspection.ask("attention", 100 * q, 100 * k, v)


def weights_add_up(inspection: Inspection) -> Pair:
    q, k, v = (inspection.normal(2, 3, 5, 4) for _ in range(3))
    _, weights = inspection.ask("attention", q, k, v)
    return weights.abs().sum(dim=-1), torch.ones_like(q[..., 0])


def same_keys(inspection: Inspection) -> Pair:
    q, k, v = drawn(inspection)
    output, _ = inspection.ask("attention", q, k[:, :1].expand_as(k), v)
    return output, v.mean(dim=1, keepdim=True).expand_as(v)


def mean_by_weights(inspection: Inspection) -> Pair:
    q, k, v = drawn(inspection)
    output, weights = inspection.ask("attention", q, k, v)
    return output, torch.einsum("bij,bje->bie", weights, v)


def keys_with_values(inspection: Inspection) -> Pair:
    q, k, v = drawn(inspection)
    order = inspection.order(q.shape[1])
    return inspection.ask("attention", q, k[:, order], v[:, order])[0], inspection.ask("attention", q, k, v)[0]


def keys_moved(inspection: Inspection) -> Pair:
    q, k, v = drawn(inspection)
    moved = k + inspection.normal(2, 1, k.shape[-1])
    return inspection.ask("attention", q, moved, v)[1], inspection.ask("attention", q, k, v)[1]


def each_query_by_itself(inspection: Inspection) -> Pair:
    q, k, v = drawn(inspection)
    other = torch.cat([inspection.normal(*q[:, :1].shape), q[:, 1:]], dim=1)
    return inspection.ask("attention", other, k, v)[0][:, 1:], inspection.ask("attention", q, k, v)[0][:, 1:]


def twice_beside(inspection: Inspection) -> Pair:
    q, k, v = drawn(inspection)
    wide = (torch.cat([own, own], dim=-1) for own in (q, k, v))
    return inspection.ask("attention", *wide)[1], inspection.ask("attention", 2**0.5 * q, k, v)[1]


def graft(model: Any, answer: Any) -> nn.Module:
    for block in model.blocks:
        block.attn = AttentionBy(lambda q, k, v: answer.attention(q, k, v)[0], block.attn)
    return model


head = Station(
    name="head",
    number=4,
    title="One attention head",
    minutes=20,
    difficulty=3,
    prediction=Prediction(
        "c",
        "A query has the same product with each of them, so softmax makes every weight 1 / n: nothing is told apart, "
        "and the weighted mean is the plain mean.",
    ),
    hints=(
        "Begin with the products: n queries of e numbers and n keys of e numbers should make a table of n x n. Row i "
        "is what query i has with every key.",
        "k.mT is (..., e, n), so q @ k.mT is the table. Divide it by the root of e, which is q.shape[-1]. The weights "
        "of one token are a row, and a row runs along the last axis.",
        "Three lines: the table divided, its softmax along the last axis, the table times v. Look at the type after -> "
        "for what is returned, and in which order.",
    ),
    observe=observe,
    laws=(
        Law("The weights of each token are positive and add up to 1, over the tokens it looks at.", weights_add_up),
        Law("The output is the mean of the values by the weights that are returned with it.", mean_by_weights),
        Law("Where all keys are the same, every token gets the mean of the values.", same_keys),
        Law("Keys and values that change places together change no output.", keys_with_values),
        Law("Another first query changes what the first token gets, and no other token.", each_query_by_itself),
        Law("The same vector added to all keys changes no weight.", keys_moved),
        Law(
            "The products are divided by √e, where e is how many numbers a query has (tried by writing queries and "
            "keys twice, side by side).",
            twice_beside,
        ),
    ),
    graft=graft,
)
