"""`rollout` and `chefer` multiply layers only if the values of each are what the layer before it returned.

The truth is written by hand, from the weights that each model formed itself.

Axes:  b images   n m tokens
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tiny import redraw
from vitral import explain
from vitral.base.errors import UsageError

WIDTH, SIDE = 16, 4
CHAIN = "multiplies the attention of layers that follow one another, but"


class Attend(nn.Module):
    """Attention of two heads from some tokens to others, which may give the values of yet others."""

    fused = False

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.passes = None  # the mean over heads of the weights of each call, where they are recorded

    def forward(self, x, keys=None, values=None):
        keys = x if keys is None else keys
        values = keys if values is None else values
        q, k, v = (
            layer(one).unflatten(-1, (2, -1)).transpose(1, 2)
            for layer, one in ((self.q, x), (self.k, keys), (self.v, values))
        )
        if self.fused:
            found = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        else:
            self.weights = (q @ k.mT).softmax(-1)
            if self.passes is not None:
                self.passes.append(self.weights.mean(1))
            found = self.weights @ v
        return self.out(found.transpose(1, 2).flatten(2))


class ViT(nn.Module):
    """4 x 4 patches of 4 x 4 pixels and CLS; tests write its `body`, from embedded tokens to those that are read.

    Of its blocks, the trunk runs the first ones, and the body the last.
    """

    depth = 3

    def __init__(self):
        super().__init__()
        self.embedding, self.stem = nn.Conv2d(3, WIDTH, 4, 4), nn.Conv2d(3, WIDTH, 4, 4)
        self.cls, self.position = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.Parameter(torch.randn(1, 17, WIDTH))
        self.blocks = nn.ModuleList(Attend() for _ in range(self.depth))
        self.join = nn.Linear(2 * WIDTH, WIDTH)
        self.mlp, self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()), nn.Linear(WIDTH, 5)

    def embed(self, images):
        x = self.embedding(images).flatten(2).mT
        return torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.position

    def trunk(self, x):
        for block in self.blocks[:-1]:
            x = x + block(x)
            x = x + self.mlp(x)
        return x

    def body(self, x, images):
        return self.trunk(x)

    def forward(self, images):
        return self.head(self.body(self.embed(images), images)[:, 0])


def run(kind, fused=False):
    """A model, images, and for each call the mean over heads of its weights."""
    torch.manual_seed(0)
    model, images = redraw(kind(), deviation=0.4), torch.randn(2, 3, 16, 16)
    layers = {name: part for name, part in model.named_modules() if isinstance(part, Attend)}
    for part in layers.values():
        part.passes = []
    with torch.no_grad():
        model(images)
    weights = {name: part.passes for name, part in layers.items()}
    for part in layers.values():
        part.passes, part.fused = None, fused
    return model, images, weights


def mixed(weights):
    """M = ½ A + ½ I"""
    return weights / 2 + torch.eye(weights.shape[-1]) / 2


def assert_shows(maps, row):
    """The map is a row over all 17 tokens, as multiples of uniform."""
    expected = row[:, 1:] / row.sum(-1, keepdim=True) * row.shape[-1]
    shown = torch.tensor(maps.values).reshape(len(row), -1)
    torch.testing.assert_close(shown / shown.sum(-1, keepdim=True), expected / expected.sum(-1, keepdim=True))


# ---- models whose values are not what the layer before returned, and what is said of them


class SharedKeys(ViT):
    """The keys and values of every second layer are those of the layer before it."""

    depth = 2

    def body(self, x, images):
        for number, block in enumerate(self.blocks):
            if number % 2 == 0:
                keys = x
            x = x + block(x, keys)
        return x


class SharedKeysOfFour(SharedKeys):
    depth = 4


class AsksEmbeddings(ViT):
    """CLS of the last block attends to the patches as they were embedded."""

    def body(self, x, images):
        cls = self.trunk(x)[:, :1]
        return cls + self.blocks[-1](cls, x)


class AsksStem(ViT):
    """The tokens attend to a feature map of the same image; there is no CLS."""

    def embed(self, images):
        return super().embed(images)[:, 1:]

    def body(self, x, images):
        x = self.trunk(x)
        return x + self.blocks[-1](x, self.stem(images).flatten(2).mT)

    def forward(self, images):
        return self.head(self.body(self.embed(images), images).mean(1))


class SkipsOneLayer(ViT):
    """The last layer's values are the tokens that entered the layer before it, after one that they left."""

    def body(self, x, images):
        first = x + self.blocks[0](x)
        second = first + self.blocks[1](first)
        return second + self.blocks[2](second, first)


class OldValues(ViT):
    """Keys of the tokens as they are, values of the tokens as they were embedded."""

    def body(self, x, images):
        y = self.trunk(x)
        return y + self.blocks[-1](y, y, x)


class AsksItsPast(ViT):
    """CLS attends to its own result of the last layer and the embeddings: keys of two depths side by side."""

    def body(self, x, images):
        y = self.trunk(x)
        return y + self.blocks[-1](y, torch.cat([y[:, :1], x[:, 1:]], dim=1))


class ExchangesClass(ViT):
    """CLS as it was learned takes the place of CLS as it is, before the last layer."""

    def body(self, x, images):
        y = torch.cat([self.cls.expand(len(x), -1, -1), self.trunk(x)[:, 1:]], dim=1)
        return y + self.blocks[-1](y)


class SharedKeysInOneTensor(ViT):
    """Keys of pairs of layers are entries of one tensor."""

    depth = 4

    def body(self, x, images):
        kept = torch.zeros(2, *x.shape)
        for number, block in enumerate(self.blocks):
            if number % 2 == 0:
                kept[number // 2] = x
            x = x + block(x, kept[number // 2])
        return x


class MasksChannel(ViT):
    """The attention of a first pass is a further channel of the image."""

    def __init__(self):
        super().__init__()
        self.second = nn.Conv2d(4, WIDTH, 4, 4)

    def body(self, x, images):
        self.trunk(x)
        mask = self.blocks[1].weights[:, :, 0, 1:].mean(1).unflatten(1, (SIDE, SIDE))[:, None]
        tokens = self.second(torch.cat([images, F.interpolate(mask, scale_factor=4)], dim=1)).flatten(2).mT
        return self.trunk(torch.cat([self.cls.expand(len(x), -1, -1), tokens], dim=1) + self.position)


class OnlyClassChanges(ViT):
    """Class-attention layers: all tokens attend, only CLS is changed (Touvron et al. 2021, "Going deeper", §3)."""

    def change(self, x, result):
        return torch.cat([x[:, :1] + result[:, :1], x[:, 1:]], dim=1)

    def body(self, x, images):
        for block in self.blocks[:-1]:
            x = self.change(x, block(x))
        return x + self.blocks[-1](x)


class OnlyClassChangesInPlace(OnlyClassChanges):
    def change(self, x, result):
        x = x.clone()
        x[:, :1] += result[:, :1]
        return x


class OnlyClassIsWritten(OnlyClassChanges):
    def change(self, x, result):
        whole = torch.zeros_like(x)
        whole[:, 1:] = x[:, 1:]
        whole[:, :1] = x[:, :1] + result[:, :1]
        return whole


class OnlySomeChange(OnlyClassChanges):
    def change(self, x, result):
        return torch.where(torch.arange(17)[:, None] % 2 == 0, x + result, x)


class OnlySomeAreScattered(OnlyClassChanges):
    def change(self, x, result):
        return x.index_put((torch.arange(2)[:, None], torch.arange(3)[None]), (x + result)[:, :3])


class NewPrompts(ViT):
    """Two tokens are exchanged for learned ones before the second layer (Jia et al. 2022, "Visual Prompt Tuning")."""

    def body(self, x, images):
        x = x + self.blocks[0](x)
        prompts = self.position[:, 1:3].expand(len(x), -1, -1)
        x = torch.cat([x[:, :1], prompts, x[:, 3:]], dim=1)
        return x + self.blocks[1](x)


class UShaped(ViT):
    """The embedded tokens are concatenated before the last layer (Bao et al. 2023, "All are Worth Words")."""

    def body(self, x, images):
        y = self.join(torch.cat([self.trunk(x), x], dim=-1))
        return y + self.blocks[-1](y)


class AddedSkip(ViT):
    def body(self, x, images):
        y = self.trunk(x) + x
        return y + self.blocks[-1](y)


class EmbeddingsInEachLayer(ViT):
    """The embeddings enter each layer anew, as in a deep equilibrium model (Bai et al. 2019)."""

    def body(self, x, images):
        y = x
        for block in self.blocks:
            y = y + block(y) + x
        return y


class AddsAStem(ViT):
    """A feature map of the image is added to the tokens between two layers."""

    def body(self, x, images):
        y = self.trunk(x)
        y = y + F.pad(self.stem(images).flatten(2).mT, (0, 0, 1, 0))
        return y + self.blocks[-1](y)


class LooksTwice(ViT):
    """A mask that a first pass gives is multiplied with the image, of which a second pass makes the answer."""

    def mask(self, x):
        self.trunk(x)
        return self.blocks[1].weights[:, :, 0, 1:].mean(1)

    def again(self, images, mask):
        mask = F.interpolate(mask.unflatten(1, (SIDE, SIDE))[:, None], scale_factor=4)
        return images * (0.3 + mask)

    def body(self, x, images):
        return self.trunk(self.embed(self.again(images, self.mask(x))))


class LooksTwiceByTokens(LooksTwice):
    def mask(self, x):
        return self.trunk(x)[:, 1:].norm(dim=-1)


REFUSED = {
    SharedKeys: r"the keys and values of blocks\.1 are not computed from what blocks\.0 returned",
    SharedKeysOfFour: r"the keys and values of blocks\.1 are not computed from what blocks\.0 returned",
    AsksStem: r"the keys and values of blocks\.2 are not computed from what blocks\.1 returned",
    AsksEmbeddings: r"the keys and values of blocks\.2 are not computed from what blocks\.1 returned",
    SkipsOneLayer: r"the keys and values of blocks\.2 are not computed from what blocks\.1 returned",
    OldValues: r"the keys and values of blocks\.2 are not computed from what blocks\.1 returned",
    AsksItsPast: r"only some of the tokens of blocks\.2 are computed from what blocks\.0, blocks\.1 returned",
    ExchangesClass: r"only some of the tokens of blocks\.2 are computed from what blocks\.0, blocks\.1 returned",
    SharedKeysInOneTensor: r"the keys and values of blocks\.1 are not computed from what blocks\.0 returned",
    OnlyClassChanges: r"only some of the tokens of blocks\.1 are computed from what blocks\.0 returned",
    OnlyClassChangesInPlace: r"only some of the tokens of blocks\.1 are computed from what blocks\.0 returned",
    OnlyClassIsWritten: r"only some of the tokens of blocks\.1 are computed from what blocks\.0 returned",
    OnlySomeChange: r"only some of the tokens of blocks\.1 are computed from what blocks\.0 returned",
    OnlySomeAreScattered: r"only some of the tokens of blocks\.1 are computed from what blocks\.0 returned",
    NewPrompts: r"only some of the tokens of blocks\.1 are computed from what blocks\.0 returned",
    LooksTwiceByTokens: r"the tokens of blocks\.0 \(call 2 of 2\) are embedded from the image again",
}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", REFUSED)
def test_layers_whose_values_are_other_tokens_are_not_multiplied(kind, fused):
    model, images, _ = run(kind, fused)
    for method in (explain.rollout, explain.chefer):
        with pytest.raises(UsageError, match=f"{method.__name__} {CHAIN} {REFUSED[kind]}"):
            method(model, images)


# ---- models whose layers may be multiplied


class LearnedQuery(ViT):
    """A pool of one learned query."""

    def body(self, x, images):
        return self.blocks[-1](self.position[:, :1].expand(len(x), -1, -1), self.trunk(x))


class AsksWithEmbeddings(ViT):
    """The last layer's queries are the tokens as they were embedded, its keys and values those of the layer before."""

    def body(self, x, images):
        return x + self.blocks[-1](x, self.trunk(x))


class OldKeys(ViT):
    """The last layer's keys are the tokens as they were embedded; what flows are its values."""

    def body(self, x, images):
        y = self.trunk(x)
        return y + self.blocks[-1](y, x, y)


class AddedInPlace(ViT):
    def trunk(self, x):
        for block in self.blocks[:-1]:
            before, x = x, x.clone()
            x += block(before)
        return x

    def body(self, x, images):
        y = self.trunk(x)
        return y + self.blocks[-1](y)


class ConcatenatesItsResidual(ViT):
    """Tokens and attention are concatenated along features, and projected."""

    def trunk(self, x):
        for block in self.blocks[:-1]:
            x = self.join(torch.cat([x, block(x)], dim=-1))
        return x

    def body(self, x, images):
        y = self.trunk(x)
        return y + self.blocks[-1](y)


class WritesIntoOneTensor(ViT):
    """Each half of the tokens is written into memory that was made before."""

    def body(self, x, images):
        y = self.trunk(x)
        whole = torch.empty_like(y)
        for part in (slice(0, 9), slice(9, 17)):
            whole[:, part] = y[:, part] + self.mlp(y[:, part])
        return whole + self.blocks[-1](whole)


class OneBlockTwice(ViT):
    """A block that runs twice (Lan et al. 2020, "ALBERT")."""

    def body(self, x, images):
        y = x + self.blocks[0](x)
        y = y + self.blocks[0](y)
        return y + self.blocks[-1](y)


class KeepsKeysInOneTensor(ViT):
    """What each layer attends to is an entry of one tensor, that was made before."""

    def body(self, x, images):
        kept = torch.zeros(3, *x.shape)
        for number, block in enumerate(self.blocks):
            kept[number] = x
            x = x + block(x, kept[number].clone())
        return x


def test_a_pool_multiplies_what_the_trunk_returned_and_the_caption_says_that_no_query_stays():
    model, images, weights = run(LearnedQuery)
    first, second, last = (weights[f"blocks.{number}"][0] for number in range(3))
    maps = explain.rollout(model, images)
    assert_shows(maps, (last @ mixed(second) @ mixed(first))[:, 0])
    assert "50% of each token stays (none in blocks.2, where the queries are not the tokens)" in maps.caption


@pytest.mark.parametrize("fused", [False, True])
def test_queries_of_an_earlier_depth_do_not_stay(fused):
    """The residual of such a layer are the queries: it is left out, which the caption says."""
    model, images, weights = run(AsksWithEmbeddings, fused)
    first, second, last = (weights[f"blocks.{number}"][0] for number in range(3))
    maps = explain.rollout(model, images)
    assert_shows(maps, (last @ mixed(second) @ mixed(first))[:, 0])
    assert "(none in blocks.2, where the queries are not the tokens)" in maps.caption


@pytest.mark.parametrize("kind", [AddedInPlace, ConcatenatesItsResidual, WritesIntoOneTensor, KeepsKeysInOneTensor])
def test_residuals_of_any_form_are_one_layer_each(kind):
    model, images, weights = run(kind)
    first, second, last = (weights[f"blocks.{number}"][0] for number in range(3))
    maps = explain.rollout(model, images)
    assert_shows(maps, (mixed(last) @ mixed(second) @ mixed(first))[:, 0])
    assert "50% of each token stays;" in maps.caption
    assert explain.chefer(model, images).values.shape == maps.values.shape


NOT_COUNTED = {
    UShaped: "Skip connections are not counted: from before blocks.0 to blocks.2.",
    AddedSkip: "Skip connections are not counted: from before blocks.0 to blocks.2.",
    EmbeddingsInEachLayer: "Skip connections are not counted: from before blocks.0 to blocks.2.",
    AddsAStem: "A second embedding of the image, which enters before blocks.2, is not counted.",
}


@pytest.mark.parametrize("kind", NOT_COUNTED)
def test_the_caption_says_what_else_is_added_to_the_tokens(kind):
    model, images, weights = run(kind)
    first, second, last = (weights[f"blocks.{number}"][0] for number in range(3))
    maps = explain.rollout(model, images)
    assert_shows(maps, (mixed(last) @ mixed(second) @ mixed(first))[:, 0])
    assert NOT_COUNTED[kind] in maps.caption and NOT_COUNTED[kind] in explain.chefer(model, images).caption
    assert "not counted" not in explain.rollout(model, images, layers=["blocks.2"]).caption


def test_values_flow_and_keys_do_not():
    model, images, weights = run(OldKeys)
    first, second, last = (weights[f"blocks.{number}"][0] for number in range(3))
    assert_shows(explain.rollout(model, images), (last @ mixed(second) @ mixed(first))[:, 0])


def test_layers_of_a_module_that_ran_twice_are_multiplied_in_order_and_can_be_named():
    model, images, weights = run(OneBlockTwice)
    (first, second), (last,) = weights["blocks.0"], weights["blocks.2"]
    assert_shows(explain.rollout(model, images), (mixed(last) @ mixed(second) @ mixed(first))[:, 0])
    some = explain.rollout(model, images, layers=["blocks.0 (call 2 of 2)", "blocks.2"])
    assert_shows(some, (mixed(last) @ mixed(second))[:, 0])
    both = explain.rollout(model, images, layers=["blocks.0"])
    assert_shows(both, (mixed(second) @ mixed(first))[:, 0])
    with pytest.raises(UsageError, match=r"no attention layer 'blocks\.9'; the model has blocks\.0 \(call 1 of 2\)"):
        explain.rollout(model, images, layers=["blocks.9"])


@pytest.mark.parametrize("kind", [LooksTwice, LooksTwiceByTokens, MasksChannel])
def test_of_a_model_that_looks_twice_the_second_pass_can_be_named(kind):
    model, images, weights = run(kind)
    second = [f"blocks.{number} (call 2 of 2)" for number in range(2)]
    with pytest.raises(UsageError) as refused:
        explain.rollout(model, images)
    assert f"layers={second}" in str(refused.value)
    expected = (mixed(weights["blocks.1"][1]) @ mixed(weights["blocks.0"][1]))[:, 0]
    assert_shows(explain.rollout(model, images, layers=second), expected)


def test_a_layer_whose_weights_are_used_elsewhere_is_not_said_to_have_no_influence():
    model, images, _ = run(LooksTwice)
    assert "output does not depend" not in explain.attention(model, images).caption
    named = explain.attention(model, images, layers=[1])
    assert "The model also uses weights besides their product with the values" in named.caption
    assert "output does not depend" not in named.caption
    for method in (explain.rollout, explain.chefer):
        with pytest.raises(UsageError, match=r"another way: those of blocks\.1 \(call 1 of 2\) in mean"):
            method(model, images, layers=["blocks.0", "blocks.1"])


def test_weights_that_are_used_elsewhere_only_are_no_part_of_a_product():
    class MasksItsTokens(ViT):
        """The CLS attention of a side branch multiplies the tokens."""

        def body(self, x, images):
            self.blocks[2](x)
            mask = self.blocks[2].weights[:, :, 0].max(1).values
            return self.trunk(x * (1 + mask[..., None]))

    model, images, weights = run(MasksItsTokens)
    with pytest.raises(
        UsageError, match=r"another way: those of blocks\.2 in max .*: layers=\['blocks\.0', 'blocks\.1'\]"
    ):
        explain.rollout(model, images)
    named = explain.rollout(model, images, layers=["blocks.0", "blocks.1"])
    assert_shows(named, (mixed(weights["blocks.1"][0]) @ mixed(weights["blocks.0"][0]))[:, 0])


def test_the_layers_of_a_half_that_shares_no_keys_can_be_named():
    model, images, weights = run(SharedKeysOfFour)
    maps = explain.rollout(model, images, layers=["blocks.0", "blocks.2"])
    assert_shows(maps, (mixed(weights["blocks.2"][0]) @ mixed(weights["blocks.0"][0]))[:, 0])
