"""A block that mixes tokens without a softmax is listed, whatever blocks stand beside it; what mixes none is not."""

import pytest
import torch
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from vitral import explain, watch
from vitral.base.errors import UsageError

EDGES = torch.tensor([(i, j) for i in range(17) for j in range(17) if abs(i - j) < 5 or not i]).T


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT * q.shape[-1] ** -0.5


def additive(q: Tensor, k: Tensor) -> Tensor:
    return (q[:, :, :, None] + k[:, :, None]).tanh().mean(-1).exp()


def gaussian(q: Tensor, k: Tensor) -> Tensor:
    return (-(q[:, :, :, None] - k[:, :, None]).square().sum(-1)).exp()


def along_edges(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    to, of = EDGES
    e = (q[:, :, to] * k[:, :, of]).sum(-1).exp()
    e = e / torch.zeros(*q.shape[:3]).index_add(2, to, e)[:, :, to]
    return torch.zeros_like(v).index_add(2, to, e[..., None] * v[:, :, of])


def sparse(q: Tensor, k: Tensor, v: Tensor, product=torch.sparse.mm) -> Tensor:
    (to, of), shape = EDGES, (17, 17)
    e = (q[:, :, to] * k[:, :, of]).sum(-1).flatten(0, 1)
    weights = [torch.sparse.softmax(torch.sparse_coo_tensor(EDGES, one, shape), 1) for one in e]
    return torch.stack([product(a, one) for a, one in zip(weights, v.flatten(0, 1))]).view_as(v)


def one_by_one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.stack([torch.stack([g @ own for g, own in zip(a, b)]) for a, b in zip(gaussian(q, k), v)])


OTHER = {
    "a Gaussian kernel": lambda q, k, v: gaussian(q, k) @ v,
    "a Gaussian kernel of cdist": lambda q, k, v: torch.cdist(q, k).square().neg().exp() @ v,
    "a Gaussian kernel, transposed": lambda q, k, v: (v.mT @ gaussian(q, k).mT).mT,
    "a Gaussian kernel, head by head": one_by_one,
    "additive scores, divided at last": lambda q, k, v: additive(q, k) @ v / additive(q, k).sum(-1, keepdim=True),
    "exp, divided at last": lambda q, k, v: scores(q, k).exp() @ v / scores(q, k).exp().sum(-1, keepdim=True),
    "sigmoid": lambda q, k, v: scores(q, k).sigmoid() @ v,
    "value by value": lambda q, k, v: (gaussian(q, k)[..., None] * v[:, :, None]).sum(-2),
    "value by value, keys first": lambda q, k, v: (gaussian(k, q)[..., None] * v[..., None, :]).sum(2),
    "of each token alone": lambda q, k, v: (q.repeat(1, 1, 1, 3)[..., :17]).relu() @ v,
    "linear": lambda q, k, v: q.relu() @ (k.relu().mT @ v),
    "edges": along_edges,
    "sparse softmax": sparse,
    "sparse softmax, by @": lambda q, k, v: sparse(q, k, v, torch.matmul),
}


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("place", [1, 2])  # a softmax follows in the block beside it, or none does
@pytest.mark.parametrize("name", OTHER)
def test_a_block_that_mixes_tokens_without_a_softmax_is_listed(name, place, images):
    torch.manual_seed(0)
    model = made(ViT(Attention, depth=3))
    model.blocks[place].attend = OTHER[name]
    with torch.no_grad(), watch(model, rows="all") as seen:
        model(images)
    assert len(seen.layers) == 2
    assert seen.missed and all(f"in blocks.{place}, line" in one for one in seen.missed)
    with pytest.raises(UsageError, match="some attention could not be recorded"):
        explain.rollout(model, images)


def turned(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention over channels, whose scores sum over tokens."""
    return (v @ (q.mT @ k).softmax(-1)).contiguous()


def rotated(x: Tensor) -> Tensor:
    angles = torch.polar(torch.ones(17, 4), torch.arange(17)[:, None] * torch.tensor([1.0, 0.5, 0.1, 0.05]))
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (4, 2)).contiguous()) * angles).flatten(-2)


def written(q: Tensor) -> Tensor:
    out = torch.empty_like(q)
    for token in range(q.shape[2]):
        out[:, :, token] = q[:, :, token] * 2
    return out


def unused_similarity(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scores(q, k).softmax(-1) @ v * (1 + scores(q, k).mean((-1, -2), keepdim=True))


PLAIN = {
    "plain": lambda q, k, v: scores(q, k).softmax(-1) @ v,
    "rotated": lambda q, k, v: scores(rotated(q), rotated(k)).softmax(-1) @ v,
    "written token by token": lambda q, k, v: scores(written(q), k).softmax(-1) @ v,
    "with a bias of the content": lambda q, k, v: (scores(q, k) + q @ torch.ones(8, 17)).softmax(-1) @ v,
    "stacked": lambda q, k, v: scores(torch.stack([*q.unbind(1)], 1), k).softmax(-1) @ v,
    "einsum": lambda q, k, v: torch.einsum("bhne,bhme->bhnm", q, torch.cat([k[:, :1], k[:, 1:]], 1)).softmax(-1) @ v,
    "a gate of the mean score": unused_similarity,
    "additive": lambda q, k, v: additive(q, k).log().softmax(-1) @ v,
}


@pytest.mark.parametrize("name", PLAIN)
def test_scores_are_not_listed(name, images):
    model = made(ViT(Attention, depth=3))
    model.blocks[1].attend = PLAIN[name]
    with torch.no_grad(), watch(model, rows="all") as seen:
        model(images)
    assert len(seen.layers) == 3 and seen.missed == []


class Pooled(ViT):
    """Its answer is read from products of features that are summed over tokens, or from tokens weighted by a gate."""

    def __init__(self, pool):
        super().__init__()
        self.pool, self.gate, self.head = pool, nn.Linear(16, 1), nn.LazyLinear(5)

    def read(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self, x).flatten(1))


POOLS = {
    "covariance": lambda model, x: x.mT @ x,
    "a gate for each token": lambda model, x: model.gate(x).sigmoid().mT @ x,
    "a gate, value by value": lambda model, x: (model.gate(x).sigmoid() * x).sum(1),
    "similarity to CLS": lambda model, x: x[:, 1:] @ x[:, :1].mT,
}


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_of_all_tokens_is_not_listed(name, images):
    model = made(Pooled(POOLS[name]))
    model(images)
    with torch.no_grad(), watch(model, rows="all") as seen:
        model(images)
    assert len(seen.layers) == 2 and seen.missed == []


def test_attention_over_channels_is_no_other_mixing(images):
    model = made(ViT(Attention, depth=3))
    model.blocks[1].attend = turned
    with torch.no_grad(), watch(model, rows="all") as seen:
        model(images)
    assert not any("no softmax" in one for one in seen.missed)
