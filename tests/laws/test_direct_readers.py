"""The readout tokens are those that the answer is read from, not those that it depends on through a norm of all tokens;
also where the last layer has windows, runs query by query, or has a part for each class."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from own_vit import Attention
from tiny import redraw
from vitral import explain
from vitral.base.errors import UsageError
from vitral.explain.observation import observe

D, CLASSES = 16, 5


class Block(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.norm, self.attention, self.mlp = nn.LayerNorm(D), attention(), nn.Linear(D, D)

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x).relu()


class ViT(nn.Module):
    """Tokens before 4 x 4 patches of an image of 16 x 16 pixels, two blocks, and what reads the tokens."""

    def __init__(self, read, prefix=1, attention=Attention, first=Attention):
        super().__init__()
        self.patches, self.reads = nn.Conv2d(3, D, 4, 4), read
        self.cls_token, self.position = nn.Parameter(torch.zeros(1, prefix, D)), nn.Parameter(torch.zeros(16, D))
        self.blocks = nn.ModuleList([Block(first), Block(attention)])
        self.norm, self.score, self.head = nn.LayerNorm(D), nn.Linear(D, 1), nn.Linear(D, CLASSES)
        self.two = nn.Linear(2 * D, CLASSES)
        self.over_all, self.groups = nn.LayerNorm((16 + prefix, D)), nn.GroupNorm(4, D)
        self.single, self.batch = nn.InstanceNorm1d(D, affine=True), nn.BatchNorm1d(D)

    def forward(self, images):
        x = self.patches(images).flatten(2).mT + self.position
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.reads(self, x)


def made(read, *args, **parts):
    return redraw(ViT(read, *args, **parts)).eval()


def readers(model, images):
    return observe(model, images).read_from


def left_of(model, images):
    """What leaves the last block."""
    left = []
    hook = model.blocks[1].register_forward_hook(lambda block, args, output: left.append(output))
    model(images)
    hook.remove()
    return left[0]


def cls(model, x):
    return model.head(x[:, 0])


def pooled(model, x):
    return model.head((x * (3 * model.score(x)).softmax(1)).sum(1))


def beside_mean(x):
    return torch.cat([x[:, 0], x[:, 1:].mean(1)], 1)


def layer_norm(model, x):
    return model.over_all(x)


def group_norm(model, x):
    return model.groups(x.mT).mT


def instance_norm(model, x):
    return model.single(x.mT).mT


def standardised(model, x):
    return (x - x.mean((1, 2), keepdim=True)) / x.std((1, 2), keepdim=True)


def of_norm_one(model, x):
    return x / x.norm(dim=(1, 2), keepdim=True)


def columns_of_norm_one(model, x):
    return F.normalize(x, dim=1)


def after_a_norm_of_each(model, x):
    return of_norm_one(model, model.norm(x))


def before_a_norm_of_each(model, x):
    return model.norm(model.over_all(x))


def after_a_linear_layer(model, x):
    return model.over_all(x @ model.patches.weight.flatten(1)[:, :D])


def without_the_mean(model, x):
    return x - x.mean(1, keepdim=True)


def by_the_largest_value(model, x):
    return x / x.abs().amax((1, 2), keepdim=True)


def softmax_of_each_column(model, x):
    return x.softmax(1)


NORMS = [
    without_the_mean,
    by_the_largest_value,
    softmax_of_each_column,
    layer_norm,
    group_norm,
    instance_norm,
    standardised,
    of_norm_one,
    columns_of_norm_one,
    after_a_norm_of_each,
    before_a_norm_of_each,
    after_a_linear_layer,
]


@pytest.fixture
def pictures():
    return torch.randn(2, 3, 16, 16)


@pytest.mark.parametrize("norm", NORMS)
def test_a_normalisation_over_all_tokens_makes_no_token_a_reader(norm, pictures):
    found = readers(made(lambda model, x: cls(model, norm(model, x))), pictures)
    assert found.tokens == (0,) and found.of_each is None and not found.note


@pytest.mark.parametrize("norm", [layer_norm, instance_norm, of_norm_one])
def test_tokens_that_change_their_places_before_it_are_followed(norm, pictures):
    """Or else what is assumed is said."""
    found = readers(made(lambda model, x: model.head(norm(model, x.flip(1))[:, 3])), pictures)
    assert found.tokens == (13,) or "assumed" in found.note


@pytest.mark.parametrize("norm", [layer_norm, group_norm, instance_norm, standardised, after_a_norm_of_each])
def test_behind_it_patches_are_read_without_cls(norm, pictures):
    found = readers(made(lambda model, x: model.head(norm(model, x)[:, 1:].mean(1))), pictures)
    assert found.tokens == tuple(range(1, 17)) and not found.note


@pytest.mark.parametrize("method", ["attention", "rollout", "chefer", "attention_gradient"])
def test_methods_start_from_cls_behind_it(method, pictures):
    """For maps that do not use the gradient, it is the map of the twin without the norm."""
    model = made(lambda model, x: cls(model, model.over_all(x)))
    twin = made(cls)
    twin.load_state_dict(model.state_dict())
    shown = getattr(explain, method)(model, pictures)
    if method in ("attention", "rollout"):
        np.testing.assert_array_equal(shown.values, getattr(explain, method)(twin, pictures).values)
    assert method != "attention" or (shown.reader, shown.of_answer) == ("CLS", True)


def test_batch_norm_in_eval_mode_reaches_no_other_token(pictures):
    found = readers(made(lambda model, x: cls(model, model.batch(x.mT).mT)), pictures)
    assert found.tokens == (0,) and not found.note


ALL_READ = {
    "pool": pooled,
    "sharp pool": lambda model, x: model.head((x * (8 * model.score(x)).softmax(1)).sum(1)),
    "pool of normed tokens": lambda model, x: pooled(model, model.norm(x)),
    "normed pool": lambda model, x: model.head(model.norm((x * (3 * model.score(x)).softmax(1)).sum(1))),
    "CLS beside the mean": lambda model, x: model.two(beside_mean(x)),
    "CLS beside the mean, normed": lambda model, x: model.two(F.layer_norm(beside_mean(x), (2 * D,))),
    "CLS beside the mean, of norm 1": lambda model, x: model.two(F.normalize(beside_mean(x), dim=-1)),
    "CLS and a little of all": lambda model, x: cls(model, x + 0.1 * x.mean(1, keepdim=True)),
    "mean of norm 1": lambda model, x: model.head(F.normalize(x.mean(1), dim=-1)),
    "log of a sum of powers": lambda model, x: model.head(x.logsumexp(1)),
    "pool behind a norm of all": lambda model, x: pooled(model, 3 * model.over_all(x)),
    "CLS beside the mean, behind a norm of all": lambda model, x: model.two(beside_mean(model.over_all(x))),
    "CLS and a little of all, normed": lambda model, x: cls(model, model.norm(x + 0.1 * x.mean(1, keepdim=True))),
    "mean behind a norm of all": lambda model, x: model.head(model.over_all(x).mean(1)),
}


@pytest.mark.parametrize("name", ALL_READ)
def test_tokens_with_small_weights_stay_readers(name, pictures):
    found = readers(made(ALL_READ[name]), pictures)
    assert found.tokens == tuple(range(17)) and found.of_each is None and not found.note


UNSETTLED = {
    "response norm": lambda model, x: cls(
        model, F.layer_norm(x + x * F.normalize(x.norm(dim=1, keepdim=True), dim=-1), (D,))
    ),
    "mean subtracted before a norm of each": lambda model, x: cls(model, model.norm(x - x.mean(1, keepdim=True))),
}


@pytest.mark.parametrize("name", UNSETTLED)
def test_where_it_is_not_settled_the_readers_are_said_to_be_assumed(name, pictures):
    note = readers(made(UNSETTLED[name]), pictures).note
    assert "perhaps only because it is normalised over all of them: all of them are assumed to be read" in note


def test_captions_say_it(pictures):
    caption = explain.attention(made(UNSETTLED["response norm"]), pictures).caption_of(0)
    assert "all of them are assumed to be read" in caption


class Windowed(Attention):
    """Attention within four windows of 2 x 2 patches, of tokens that are all patches."""

    def forward(self, x):
        windows = x.unflatten(1, (2, 2, 2, 2)).transpose(2, 3).flatten(3, 4).flatten(0, 2).reshape(-1, 4, D)
        out = super().forward(windows).reshape(len(x), 2, 2, 2, 2, D).transpose(2, 3)
        return out.reshape(len(x), 16, D)


READ_IN_WINDOWS = {
    "one": lambda model, x: model.head(x[:, 5]),
    "the centre": lambda model, x: model.head(x[:, [5, 6, 9, 10]].mean(1)),
    "one behind a norm of all": lambda model, x: model.head(model.over_all(model.norm(x))[:, 3]),
    "the largest": lambda model, x: model.head(x.amax(1)),
    "all": lambda model, x: model.head(x.mean(1)),
}


@pytest.mark.parametrize("name", READ_IN_WINDOWS)
def test_readers_within_windows_are_measured(name, pictures):
    """The map is the sum of the rows of the patches that are read, each within its window."""
    model = made(READ_IN_WINDOWS[name], 0, Windowed)
    shown = explain.attention(model, pictures)
    left = left_of(model, pictures)
    weights = model.blocks[1].attention.weights.unflatten(0, (2, 4)).detach()
    read = torch.zeros(2, 16, dtype=torch.bool)
    patches = {"one": [5], "the centre": [5, 6, 9, 10], "one behind a norm of all": [3], "all": range(16)}.get(name)
    for image in range(2):
        read[image, list(patches or left[image].argmax(0))] = True
    expected = torch.zeros(2, weights.shape[2], 16)
    order = torch.arange(16).unflatten(0, (2, 2, 2, 2)).transpose(1, 2).reshape(4, 4)
    for window, places in enumerate(order):
        chosen = read[:, places].float()
        expected[:, :, places] = torch.einsum("bhrm,br->bhm", weights[:, window], chosen)
    expected = expected / expected.mean(-1, keepdim=True)
    np.testing.assert_allclose(shown.values[:, -1].reshape(2, -1, 16), expected.numpy(), rtol=1e-4, atol=1e-5)
    assert "assumed" not in shown.caption_of(0)


class InParts(Attention):
    """Causal attention, a few queries at a time to the keys until then."""

    step = 1

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        ends = range(self.step, x.shape[1] + 1, self.step)
        return self.out(torch.cat([self.part(q, k, v, end) for end in ends], 2).transpose(1, 2).flatten(2))

    def part(self, q, k, v, end):
        return (q[:, :, end - self.step : end] @ k[:, :, :end].mT).softmax(-1) @ v[:, :, :end]


class ByRows(InParts):
    step = 4


class ByKernel(InParts):
    def part(self, q, k, v, end):
        return F.scaled_dot_product_attention(q[:, :, end - 1 : end], k[:, :, :end], v[:, :, :end])


class ByHalves(InParts):
    step = 8


@pytest.mark.parametrize("kind", [InParts, ByRows, ByKernel, ByHalves])
@pytest.mark.parametrize("method", [explain.attention, explain.attention_gradient])
def test_readers_in_several_calls_are_refused(kind, method, pictures):
    model = made(lambda model, x: model.head(x.mean(1)), 0, kind, kind)
    with pytest.raises(
        UsageError, match=r"each with a part of the queries and different keys.*layers=\[\d+\], query=0"
    ):
        method(model, pictures)


@pytest.mark.parametrize("kind", [InParts, ByKernel])
def test_the_last_query_of_such_a_loop_is_shown_if_it_alone_is_read(kind, pictures):
    model = made(lambda model, x: model.head(x[:, -1]), 0, kind, kind)
    shown = explain.attention(model, pictures)
    assert shown.of_answer and shown.values.shape[1] == len(set(shown.layers)) == 2  # the last call of each block
    with pytest.raises(UsageError, match="from the queries of 1 of them"):
        explain.attention(made(lambda model, x: model.head(x[:, 7]), 0, kind, kind), pictures)


class Pools(ViT):
    """An attention pool for each of three classes, one after the other."""

    def __init__(self, shared=False):
        super().__init__(None, 0)
        self.shared, self.queries = shared, nn.Parameter(torch.zeros(3, D))
        self.heads = nn.ModuleList(nn.Linear(D, 1) for _ in range(3))
        self.reads = Pools.read

    def read(self, x):
        self.pools = [(query @ x.mT).softmax(-1)[:, None] for query in self.queries]
        scores = torch.cat([head((pool @ x)[:, 0]) for head, pool in zip(self.heads, self.pools)], 1)
        return scores @ torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]]) if self.shared else scores


def test_each_class_is_explained_by_its_own_pool(pictures):
    """The gradient at the weights of pool c is (x · w_c), w_c being the weights of the head of class c."""
    model = redraw(Pools()).eval()
    shown = explain.attention_gradient(model, pictures, [0, 1]).values.reshape(2, 16)
    x = left_of(model, pictures)
    for image in range(2):
        expected = model.pools[image][image, 0] * (x[image] @ model.heads[image].weight[0]).clamp_min(0)
        expected = (expected / expected.mean()).detach().numpy()
        np.testing.assert_allclose(shown[image] / shown[image].mean(), expected, rtol=1e-4, atol=1e-5)


def test_pools_beside_the_one_that_is_shown_are_named(pictures):
    caption = explain.attention_gradient(redraw(Pools(shared=True)).eval(), pictures, 0).caption_of(0)
    assert "The prediction is also read from other calls of Pools, which this map does not show." in caption


def class_tokens(model, x):
    """Logit k is read from token k."""
    return model.head(x[:, :CLASSES]).diagonal(dim1=1, dim2=2)


def test_chefer_starts_from_the_token_of_its_class(pictures):
    model = made(class_tokens, CLASSES)
    only = made(lambda model, x: class_tokens(model, x) * F.one_hot(torch.tensor(1), CLASSES), CLASSES)
    only.load_state_dict(model.state_dict())
    assert readers(only, pictures).tokens == (1,) and readers(model, pictures).tokens == tuple(range(CLASSES))
    shown, alone = (explain.chefer(one, pictures, 1) for one in (model, only))
    np.testing.assert_allclose(shown.values, alone.values, rtol=1e-5)
    assert "of any class" not in shown.caption_of(0)


def test_behind_a_norm_of_all_tokens_chefer_says_that_it_starts_from_those_of_any_class(pictures):
    model = made(lambda model, x: class_tokens(model, model.over_all(x)), CLASSES)
    assert readers(model, pictures).tokens == tuple(range(CLASSES))
    caption = explain.chefer(model, pictures, 1).caption_of(0)
    assert (
        "Relevance starts from the readout tokens of all classes, since these tokens are normalised together."
        in caption
    )
