"""Models as readers write them: no list of blocks, tokens changed in place, pools of several queries, answers that are
maps. What is shown of them is what they do, or it is refused for the true reason."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from handmade import Attention, Block, Plain, made
from tiny import see_attention
from vitral import explain
from vitral.base.errors import UsageError
from vitral.base.lookup import find, names
from vitral.data.spec import find_data
from vitral.explain.entry import explainer
from vitral.explain.observation import observe
from vitral.explain.scoring import score

METHODS, CONTROLS = names("explain.methods"), names("explain.controls")


class Unlisted(Plain):
    """Its blocks are attributes, inside a module of theirs."""

    def __init__(self, *args):
        super().__init__(*args)
        self.encoder = nn.Module()
        self.encoder.first, self.encoder.second = self.blocks
        self.encoder.forward = lambda x: self.encoder.second(self.encoder.first(x))
        del self.blocks

    def through(self, x):
        return self.encoder(x)


class Added(Plain):
    def read(self, x):
        x += 1
        return super().read(x)


class Clipped(Plain):
    def read(self, x):
        return super().read(F.relu(x, inplace=True))


class Normalising(Plain):
    def embedded(self, images):
        return super().embedded(images.sub_(0.0).mul_(1.0))


@pytest.fixture
def pictures():
    return torch.randn(2, 3, 16, 24)


@pytest.mark.parametrize("name", METHODS + CONTROLS)
@pytest.mark.parametrize("kind", [Unlisted, Added, Clipped, Normalising])
def test_every_method_explains_it_as_it_explains_its_plain_twin(kind, name, pictures):
    """`Unlisted` computes what `Plain` does, and so does `Normalising`; the others add a step to it out of place."""
    model = made(kind)
    method = explainer(find("explain.methods" if name in METHODS else "explain.controls", name, "method"))
    maps = method(model, pictures.clone())
    assert maps.grid == (2, 3) and np.isfinite(maps.values).all()

    class Twin(Plain):
        def read(self, x):
            return super().read({Added: x + 1, Clipped: x.relu()}.get(kind, x))

    twin = made(Twin)
    with torch.no_grad():
        for own, theirs in zip(sorted_parameters(twin), sorted_parameters(model)):
            own.copy_(theirs)
        torch.testing.assert_close(twin(pictures.clone()), model(pictures.clone()))
    if name != "untrained":  # whose parameters are drawn in another order
        np.testing.assert_allclose(maps.values, method(twin, pictures.clone()).values, rtol=1e-4, atol=1e-6)
    assert [part.split(".")[-1] for part in maps.layers][-1] != ""


def sorted_parameters(model):
    """By what they are named without the names of what holds the blocks."""
    rename = {"encoder.first": "blocks.0", "encoder.second": "blocks.1"}
    named_ = {}
    for name, value in model.named_parameters():
        for own, theirs in rename.items():
            name = name.replace(own, theirs)
        named_[name] = value
    return [named_[name] for name in sorted(named_)]


def test_blocks_outside_of_lists_are_found(pictures):
    model = made(Unlisted)
    seen = see_attention(model, pictures, stream=True)
    assert [layer.name for layer in seen.layers] == ["encoder.first.attention", "encoder.second.attention"]
    with torch.no_grad():
        entering = model.embedded(pictures)
        after = model.encoder.first(entering)
        expected = [entering, after, model.encoder.second(after)]
    assert seen.next_layers == [0, 1, 2]
    for got, wanted in zip(seen.stream, expected, strict=True):
        torch.testing.assert_close(got, wanted)
    assert observe(model, pictures).readout == (0,)
    assert observe(model, pictures, ["feature maps"]).patch_grid() == (2, 3)
    assert explain.tested(model, pictures, explain.attention(model, pictures)).tested
    assert explain.logit_lens(model, pictures).shape == (2, 3, 7, 5)


class Alone(Plain):
    """Attention in the model's own forward, so no module of it is a block."""

    def __init__(self):
        super().__init__()
        del self.blocks

    def through(self, x):
        return x + F.scaled_dot_product_attention(x, x, x)


def test_without_blocks_there_are_feature_maps(pictures):
    model = made(Alone)
    assert explain.attention(model, pictures).reader == "CLS"
    assert observe(model, pictures, ["feature maps"]).patch_grid() == (2, 3)
    assert explain.grad_cam(model, pictures).layers == ("patch",)
    assert explain.tested(model, pictures, explain.occlusion(model, pictures)).tested


class Segmenter(Plain):
    """A score for each class at each patch."""

    def read(self, x):
        return self.head(x[:, 1:]).mT.unflatten(2, (2, 3))


def test_a_segmenter_reads_its_patches_though_it_has_cls(pictures):
    model = made(Segmenter)
    assert observe(model, pictures).readout == (1, 2, 3, 4, 5, 6)
    assert explain.attention(model, pictures).reader == "the mean of all patches"


class Pooled(Plain):
    """Learned queries read the patches; no CLS."""

    queries = 4

    def __init__(self, *args):
        super().__init__(*args)
        self.query = nn.Parameter(torch.zeros(1, 1, self.queries, 12))
        del self.cls_token
        self.place = nn.Parameter(self.place[:, 1:].detach())

    def embedded(self, images):
        return self.patch(images).flatten(2).mT + self.place

    def read(self, x):
        read = F.scaled_dot_product_attention(self.query.expand(len(x), -1, -1, -1), x[:, None], x[:, None])
        return self.head(read.mean((1, 2)))


class PooledByOne(Pooled):
    queries = 1


@pytest.mark.parametrize("kind", [Pooled, PooledByOne])
def test_a_pools_queries_are_averaged(kind, pictures):
    model = made(kind)
    seen = see_attention(model, pictures)
    first, second, pool = (layer.weights().mean(1) for layer in seen.layers)
    maps = explain.attention(model, pictures)
    assert maps.layers == (kind.__name__,)
    assert maps.reader == ("the pool's query" if kind is PooledByOne else "the mean of all 4 queries")
    np.testing.assert_allclose(maps.merged.reshape(2, -1), 6 * pool.mean(1), rtol=1e-4)
    both = [weights / 2 + torch.eye(6) / 2 for weights in (first, second)]
    expected = 6 * (pool @ both[1] @ both[0]).mean(1)
    np.testing.assert_allclose(explain.rollout(model, pictures).merged.reshape(2, -1), expected, rtol=1e-4)
    for name in ("chefer", "attention_gradient", "grad_cam"):
        assert getattr(explain, name)(model, pictures).grid == (2, 3)
    assert explainer(find("explain.controls", "untrained", "control"))(model, pictures).grid == (2, 3)


@pytest.mark.parametrize("kind", [Pooled, PooledByOne])
def test_a_patch_does_not_read_where_a_pool_does(kind, pictures):
    model = made(kind)
    who = "one learned query" if kind is PooledByOne else "4 queries"
    message = f"{who} for 6 tokens, so no query can be identified with the patch in row 1, column"
    with pytest.raises(UsageError, match=message):
        explain.attention(model, pictures, query=(1, 1))
    with pytest.raises(UsageError, match=f"{who} for 6 tokens"):
        explain.query_grid(model, pictures)
    assert explain.query_grid(model, pictures, layer=1, queries=[(1, 1)]).values.shape == (2, 1, 2, 3)
    assert explain.attention(model, pictures, layers=[0, 1], query=(1, 1)).layers[-1] == "blocks.1.attention"
    assert explain.attention(model, pictures, layers=[2], query=0).values.shape == (2, 1, 1, 2, 3)


class Reduced(Attention):
    """Keys and values are means of three tokens, as in Pyramid Vision Transformers."""

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
        k, v = (part.unflatten(2, (-1, 4)).mean(3) for part in (k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Pyramid(Pooled):
    """16 tokens that read 4."""

    def block(self):
        return Block(Reduced)

    def read(self, x):
        return self.head(x.mean(1))


def test_keys_made_of_several_tokens_stand_where_these_do():
    """Each key is the mean of a row of patches; four of them are no grid of 2 x 2."""
    model, images = made(Pyramid, (32, 32)), torch.randn(1, 3, 32, 32)
    layer = see_attention(model, images).layers[0]
    assert (layer.num_queries, layer.num_tokens) == (16, 4)
    maps = explain.attention(model, images, layers=[0])
    assert maps.grid == layer.tokens.grid == (4, 1)
    expected = 4 * layer.weights().mean((1, 2))[0]
    np.testing.assert_allclose(maps.merged.flatten(), expected, rtol=1e-4)
    with pytest.raises(UsageError, match="no query can be identified with the patch in row 1, column 0"):
        explain.query_grid(model, images, layer=0, queries=[(1, 0)])


class Keeping(Attention):
    def weights(self, q, k):
        self.kept = super().weights(q, k)
        return self.kept


class Kept(Plain):
    def block(self):
        return Block(Keeping)


def test_a_model_that_keeps_its_attention_is_scored_after_and_before_gradients():
    model, data = made(Kept, (48, 48), 8), find_data("cued")
    for methods, metrics in ((["chefer"], ["stability", "randomisation"]), (["attention"], ["randomisation"])):
        table = score(methods, metrics, model, data, n=2)
        assert not table.refused
        assert {one.method for one in table.scores} == {*methods, *CONTROLS}


class Channels(Attention):
    """Channels read channels (Ding et al. 2022, "DaViT", §3.2): 16 of them, which would fit an image as 4 x 4."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x):
        q, k, v = (part.mT[:, None] for part in self.qkv(x).chunk(3, -1))
        return F.scaled_dot_product_attention(q, k, v)[:, 0].mT


class OverChannels(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 16, 7, 4, 3), nn.ModuleList([Channels()])
        self.head = nn.Linear(16, 5)

    def forward(self, images):
        x = self.stem(images).flatten(2).mT
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean(1))


def test_channels_that_read_channels_are_no_image():
    model, images = made(OverChannels), torch.randn(2, 3, 24, 24)
    for method in (explain.attention, explain.attention_gradient, explain.rollout, explain.chefer, explain.query_grid):
        with pytest.raises(UsageError, match="over the 16 channels of each head, not over its 36 tokens"):
            method(model, images)
    assert explain.grad_cam(model, images).grid == (6, 6)


class Merging(Pooled):
    """16 tokens, then the 4 means of their rows, the mean of which is read."""

    def through(self, x):
        return self.blocks[1](self.blocks[0](x).unflatten(1, (4, 4)).mean(2))

    def read(self, x):
        return self.head(x.mean(1))


def test_where_tokens_were_merged_since_the_readers_are_not_looked_for_among_the_earlier():
    model, images = made(Merging, (32, 32)), torch.randn(2, 3, 32, 32)
    seen = see_attention(model, images)
    assert observe(model, images).readout == (0, 1, 2, 3)
    # The four tokens are those of a column: no square of them.
    for number, (layer, grid) in enumerate(zip(seen.layers, ((4, 4), (4, 1)), strict=True)):
        maps = explain.attention(model, images, layers=[number])
        assert maps.grid == grid and maps.reader == "the mean of all tokens"
        expected = grid[0] * grid[1] * layer.weights().mean((1, 2))
        np.testing.assert_allclose(maps.merged.reshape(2, -1), expected, rtol=1e-4)


class Dropping(Merging):
    def through(self, x):
        return self.blocks[1](self.blocks[0](x)[:, ::4])


def test_where_tokens_were_dropped_since_the_others_do_not_stand_for_them():
    model, images = made(Dropping, (32, 32)), torch.randn(2, 3, 32, 32)
    assert explain.attention(model, images, layers=[0]).grid == (4, 4)
    with pytest.raises(UsageError, match="Only 4 of 16 patches change a token"):
        explain.attention(model, images, layers=[1])


def test_of_tokens_that_are_changed_in_place_afterwards_no_lens_is_given(pictures):
    """What left the last block is gone: asked about it again, the model would add its step twice."""
    message = "gives a different output when it is run again from the output of its last block"
    with pytest.raises(UsageError, match=message):
        explain.logit_lens(made(Added), pictures)
    assert explain.logit_lens(made(Plain), pictures).shape == (2, 3, 7, 5)


class Named(Plain):
    """Its learned token is called `cls`, or a name that says nothing."""

    word = "cls"


class Unnamed(Named):
    word = "start"


@pytest.mark.parametrize(("kind", "reader"), [(Named, "CLS"), (Unnamed, "prefix 0")])
def test_a_token_is_called_cls_only_where_the_model_does(kind, reader, pictures):
    model = made(kind)
    maps = explain.attention(model, pictures)
    assert maps.reader == reader and maps.grid == (2, 3)
    seen = see_attention(model, pictures, rows="prefix")
    np.testing.assert_allclose(maps.prefix_mass[:, 0], seen.layers[0].rows([0])[:, :, 0, 0], rtol=1e-5)
