"""Weights that a model uses besides their product with the values: ∂y/∂A of autograd is then more than the gradient
through the product, and methods that know only the product refuse. Where the two agree, they do not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from tiny import see_attention
from vitral import explain
from vitral.base.errors import UsageError
from vitral.explain.observation import observe

REFUSED = "the output also depends on the weights in another way"
CHOSEN = "The model also uses weights to choose or to compare, where no gradient passes"


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Keeping(Attention):
    """Keeps the weights that multiply the values, on the graph; `bias` is added to the scores."""

    bias: Tensor | None = None

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        self.scores = 2 * q @ k.mT if self.bias is None else 2 * q @ k.mT + self.bias
        self.kept = self.scores.softmax(-1)
        return self.kept


class RelativeValues(Keeping):
    """A v + A r, with a learned r for each pair of tokens (Shaw et al. 2018, "Self-Attention with Relative Position
    Representations", eq. 3)."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(17, 17, 8))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = self.weights(q, k)
        return weights @ v + torch.einsum("bhnm,nme->bhne", weights, self.table)


class GatedOutput(Keeping):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = self.weights(q, k)
        return (weights @ v) * (1 + 3 * weights.var(-1, keepdim=True))


class GatedValues(Keeping):
    """Each value is scaled by the attention that its token gets."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = self.weights(q, k)
        return weights @ (v * 17 * weights.mean(-2)[..., None])


class GatedWeights(Keeping):
    """The weights are scaled by a gate made of them: what multiplies the values is what is shown."""

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        weights = super().weights(q, k)
        self.kept = weights * (8 * weights.mean(-2, keepdim=True)).sigmoid()
        return self.kept


class Thresholded(Keeping):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        weights = super().weights(q, k)
        weights = weights * (weights > 0.03)
        self.kept = weights / (weights.sum(-1, keepdim=True) + 1e-6)
        return self.kept


class Reading(ViT):
    """`use` makes the answer of the model, its scores and the weights of its last layer."""

    def __init__(self, use: Callable, attention: type = Keeping):
        super().__init__(attention)
        self.use, self.features, self.coordinates = use, nn.Linear(16, 5), nn.Linear(2, 5)
        self.places = torch.rand(17, 2)

    def through(self, x: Tensor) -> Tensor:
        self.last = super().through(x)
        return self.last

    def forward(self, images: Tensor) -> Tensor:
        return self.use(self, super().forward(images), self.blocks[-1].kept)


class Weighted(ViT):
    """An MLP whose result is weighted by the attention of CLS, before the last layer."""

    def __init__(self):
        super().__init__(Keeping)
        self.mlp = nn.Linear(16, 16)

    def through(self, x: Tensor) -> Tensor:
        x = x + self.blocks[0](x)
        x = x + self.mlp(x).relu() * 17 * self.blocks[0].kept.mean(1)[:, 0, :, None]
        return x + self.blocks[1](x)


class Passed(ViT):
    """What the first layer made, `scores` or weights (`kept`), is added to the scores of the second (He et al. 2021,
    "RealFormer", eq. 3)."""

    def __init__(self, what: str):
        super().__init__(Keeping)
        self.what = what

    def through(self, x: Tensor) -> Tensor:
        first, second = self.blocks
        x = x + first(x)
        second.bias = getattr(first, self.what)
        return x + second(x)


class Repeated(Keeping):
    """The same weights multiply two halves of the values."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = self.weights(q, k)
        return torch.cat([weights @ half for half in v.chunk(2, -1)], -1)


def features(model, scores, weights):
    return scores + 5 * model.features(weights[:, :, 0, 1:].mean(1))


def expected_place(model, scores, weights):
    return scores + 5 * model.coordinates((weights.mean(1) @ model.places)[:, 0])


def pooled(model, scores, weights):
    return scores + model.head((weights[:, :, 0, 1:].mean(1)[..., None] * model.last[:, 1:]).sum(1))


def pooled_by_product(model, scores, weights):
    return scores + model.head((weights[:, :, 0, 1:].mean(1)[:, None] @ model.last[:, 1:])[:, 0])


def entropy(model, scores, weights):
    return scores * (1 + (weights * weights.log()).sum(-1)[:, :, 0].mean(1, keepdim=True))


def temperature(model, scores, weights):
    return scores / weights[:, :, 0].amax(-1).mean(1, keepdim=True)


def written(model, scores, weights):
    row = torch.zeros(len(scores), 16)
    row.copy_(weights[:, 0, 0, 1:])
    return scores + 5 * model.features(row)


# The models, and the number of the layer whose weights are used again.
FURTHER = {
    "relative values": (lambda: ViT(RelativeValues), 1),
    "gated output": (lambda: ViT(GatedOutput), 1),
    "gated values": (lambda: ViT(GatedValues), 1),
    "passed on to the scores": (lambda: Passed("kept"), 0),
    "weighted tokens": (Weighted, 0),
    "repeated": (lambda: ViT(Repeated), 1),
    **{
        use.__name__: (lambda use=use: Reading(use), 1)
        for use in (features, expected_place, pooled, pooled_by_product, entropy, temperature, written)
    },
}


def returned(model, scores, weights):
    return scores, [block.kept for block in model.blocks]


def for_a_loss(model, scores, weights):
    return scores, -(weights * weights.log()).sum(-1).mean()


def distilled(model, scores, weights):
    return {"logits": scores, "distillation": model.features(weights.mean(1)[:, 0, 1:])}


def stored(model, scores, weights):
    maps = torch.zeros(2, 2, 2, 17, 17)
    for number, block in enumerate(model.blocks):
        maps[number] = block.kept
    model.flow = maps[1].mean(1) @ maps[0].mean(1)
    return scores


def of_their_shape(model, scores, weights):
    return scores + torch.zeros_like(weights)[:, 0, 0, :5] + weights.new_ones(5)


ALLOWED = {
    "plain": lambda: ViT(Keeping),
    "scores passed on": lambda: Passed("scores"),
    "gated weights": lambda: ViT(GatedWeights),
    "thresholded": lambda: ViT(Thresholded),
    **{
        use.__name__: (lambda use=use: Reading(use))
        for use in (returned, for_a_loss, distilled, stored, of_their_shape)
    },
}


def true_and_shown(model: nn.Module, images: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """∂y/∂A of a layer by autograd, and the gradient that methods take."""
    answer = model(images)
    scores = answer["logits"] if isinstance(answer, dict) else answer[0] if isinstance(answer, tuple) else answer
    kept = model.blocks[number].kept
    (true,) = torch.autograd.grad(scores[:, 1].sum(), kept)
    observation = observe(model, images, ["attention", "gradients"])
    of_layer = [index for index, layer in enumerate(observation.layers) if layer.name.startswith(f"blocks.{number}")]
    gradients = observation.layer_gradients(1)[of_layer[0]]
    shown = observation.layers[of_layer[0]].weight_gradients(gradients, slice(None))
    torch.testing.assert_close(observation.layers[of_layer[0]].weights(), kept)  # the weights themselves are exact
    return true, shown


@pytest.mark.parametrize("name", FURTHER)
def test_a_further_use_of_weights_is_noted_and_refused(name, images):
    torch.manual_seed(0)
    build, number = FURTHER[name]
    model = made(build())
    true, shown = true_and_shown(model, images, number)
    assert (true - shown).abs().max() > 0.01 * true.abs().max()
    seen = see_attention(model, images)
    uses = [layer.further_uses for layer in seen.layers if layer.name == f"blocks.{number}"]
    assert all(uses) and "test_further_uses.py" in str(uses[0][0])
    for method in (explain.chefer, explain.rollout):
        with pytest.raises(UsageError, match=f"{REFUSED}: .*those of blocks.{number} .*in .*occlusion"):
            method(model, images, layers=["blocks.0", "blocks.1"])
    if number == 1:
        with pytest.raises(UsageError, match=f"{REFUSED}: those of blocks.1 .*in .*, line .* of test_further_uses.py"):
            explain.attention_gradient(model, images)
        if name not in ("relative values", "gated output", "gated values"):  # where no place is measured
            assert "besides their product with the values" in explain.attention(model, images).caption


@pytest.mark.parametrize("name", ALLOWED)
def test_weights_that_the_answer_does_not_use_again_are_not_refused(name, images):
    torch.manual_seed(0)
    model = made(ALLOWED[name]())
    for number in (0, 1):
        torch.testing.assert_close(*true_and_shown(model, images, number))
    assert not any(layer.further_uses for layer in see_attention(model, images).layers)
    for method in (explain.chefer, explain.rollout, explain.attention_gradient, explain.attention):
        assert "also uses weights" not in method(model, images).caption


@pytest.mark.parametrize("build", [lambda: ViT(Keeping), lambda: Reading(features)])
def test_another_layer_may_be_named(build, images):
    torch.manual_seed(0)
    model = made(build())
    for method in (explain.chefer, explain.rollout):
        assert method(model, images, layers=["blocks.0"]).layers == ("blocks.0",)


def chosen(model, scores, weights):
    best = weights[:, :, 0, 1:].mean(1).topk(4).indices
    return scores + model.head(model.last[:, 1:].gather(1, best[..., None].expand(-1, -1, 16)).mean(1))


def masked(model, scores, weights):
    mask = (weights[:, :, 0, 1:].mean(1) > 1 / 17)[..., None]
    return scores + model.head((model.last[:, 1:] * mask).mean(1))


@pytest.mark.parametrize("use", [chosen, masked])
def test_a_choice_by_weights_is_reported_in_the_caption(use, images):
    """As TransFG (He et al. 2022) and EViT (Liang et al. 2022) choose patches: the gradient is right, and not all."""
    torch.manual_seed(0)
    model = made(Reading(use))
    torch.testing.assert_close(*true_and_shown(model, images, 1))
    for method in (explain.chefer, explain.rollout, explain.attention_gradient, explain.attention):
        assert f"{CHOSEN}, which this map leaves out: those of blocks.1 in" in method(model, images).caption


class Returning(nn.Module):
    """PyTorch's own attention, which returns its weights."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out, self.kept = self.attention(x, x, x, need_weights=True)
        return out


def test_weights_that_multi_head_attention_returns_are_followed(images):
    torch.manual_seed(0)
    used = made(Reading(lambda model, scores, weights: scores + model.features(weights[:, 0, 1:]), Returning))
    with pytest.raises(UsageError, match=f"{REFUSED}: those of blocks.1.attention in addmm"):
        explain.attention_gradient(used, images)
    kept = made(Reading(lambda model, scores, weights: (scores, weights), Returning))
    assert "also uses" not in explain.attention_gradient(kept, images).caption


def test_an_answer_that_is_attention_depends_on_its_layer(images):
    torch.manual_seed(0)
    model = made(Reading(lambda model, scores, weights: weights.mean(1)[:, 0]))
    assert len(see_attention(model, images).of_answer) == 2
    for method in (explain.chefer, explain.rollout, explain.attention_gradient):
        with pytest.raises(UsageError, match=f"{REFUSED}: those of blocks.1 in the answer itself"):
            method(model, images)


def test_weights_used_as_a_bias_of_a_fused_kernel_are_followed(images):
    class Fused(Attention):
        bias: Tensor | None = None

        def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v, self.bias)

    torch.manual_seed(0)
    model = Passed("kept")
    model.blocks[1] = Fused()
    with pytest.raises(UsageError, match=f"{REFUSED}: those of blocks.0 in _s"):
        explain.chefer(made(model), images)
