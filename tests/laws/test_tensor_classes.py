"""Tensors of a class of their own that a model makes: exact, or a sentence with the cause and the way out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right, causal_upper_left

from plain_vit import Attention, ViT, made
from vitral import explain, watch
from vitral.base.errors import WatchError

REASON = "makes a tensor of the class {} while it runs"


class Own(Tensor):
    pass


class Biased(Attention):
    """`make` makes the mask, in __init__ or whenever it runs."""

    def __init__(self, make, once: bool):
        super().__init__()
        self.make, self.once = make, once
        self.mask = make() if once else None

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask if self.once else self.make())


class Causal(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        hidden = torch.full((17, 17), -torch.inf).triu(1)
        return (q @ k.mT * q.shape[-1] ** -0.5 + hidden).softmax(-1)


class Marked(Attention):
    """A plain tensor takes the class on, and lets go of it."""

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return super().weights(q.as_subclass(Own), k).as_subclass(Tensor)


def model_of(attention) -> nn.Module:
    torch.manual_seed(0)
    return made(Averaged(attention))


class Averaged(ViT):
    """Reads all tokens: under a causal mask, the first attends to itself alone."""

    def read(self, x: Tensor) -> Tensor:
        return self.head(x.mean(1))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


MAKERS = [lambda: causal_upper_left(17, 17), lambda: causal_lower_right(17, 17), lambda: Own(torch.zeros(17, 17))]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("gradients", [False, True])
def test_the_cause_is_named(make, gradients, images):
    model, name = model_of(lambda: Biased(make, once=False)), type(make()).__name__
    before = model(images)
    found = pytest.raises(WatchError, match=REASON.format(name))
    with torch.set_grad_enabled(gradients), found as refusal, watch(model):
        model(images)
    assert ("is_causal=True" in str(refusal.value)) == (name == "CausalBias")
    for method in (explain.attention, explain.rollout, explain.attention_gradient):
        with pytest.raises(WatchError, match=REASON.format(name)):
            method(model, images)
    assert explain.occlusion(model, images, grid=(4, 4)).values.any()
    assert torch.equal(model(images), before)


@pytest.mark.parametrize(
    ("attention", "plain"),
    [
        (lambda: Biased(MAKERS[0], once=True), Causal),
        (lambda: Biased(MAKERS[1], once=True), Causal),
        (lambda: Biased(lambda: torch.zeros(17, 17), once=True), Attention),
        (Marked, Attention),
    ],
)
def test_the_way_out_is_exact(attention, plain, images):
    model, same = model_of(attention), model_of(plain)
    same.load_state_dict(model.state_dict())
    found = []
    for one in (model, same):
        with torch.no_grad(), watch(one, "all") as seen:
            one(images)
        found.append(seen.layers)
    for layer, expected in zip(*found, strict=True):
        torch.testing.assert_close(layer.weights(), expected.weights())
        assert layer.tokens == expected.tokens
