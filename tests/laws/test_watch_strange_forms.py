"""Models that look like others and are not: streams that do not follow one another, tokens that move, weights that are
no shares. Each was once shown wrongly without a word."""

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from tiny import see_attention
from vitral import explain, watch
from vitral.base.errors import UsageError, WatchError


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


CHAIN = "multiplies the attention of layers that follow one another"


class Shuffled(ViT):
    """The patches are put into another order between the blocks."""

    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))

    def through(self, x: Tensor) -> Tensor:
        x = x + self.blocks[0](x)
        x = torch.cat([x[:, :1], x[:, 1:][:, self.order]], 1)
        return x + self.blocks[1](x)


def test_tokens_in_another_order_have_their_places_and_no_rollout(images):
    model = made(Shuffled())
    first, second = see_attention(model, images).layers
    assert first.tokens.patch_tokens == tuple(range(1, 17))
    assert second.tokens.patch_tokens == tuple(1 + model.order.tolist().index(patch) for patch in range(16))
    with pytest.raises(UsageError, match=f"{CHAIN}, but the tokens of .* are in a different order"):
        explain.rollout(model, images)


class Ensemble(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = ViT(), ViT()

    def forward(self, images: Tensor) -> Tensor:
        return self.a(images) + self.b(images)


class TwoStreams(ViT):
    """Two streams, block by block."""

    def __init__(self):
        super().__init__(depth=4)

    def through(self, x: Tensor) -> Tensor:
        y = x.clone()
        for number in (0, 2):
            x, y = x + self.blocks[number](x), y + self.blocks[number + 1](y)
        return x + y


@pytest.mark.parametrize("model", [Ensemble, TwoStreams])
def test_layers_that_do_not_follow_one_another_are_not_multiplied(model, images):
    model = made(model())
    layers = see_attention(model, images).layers
    assert len(layers) == 4 and all(layer.num_heads == 2 for layer in layers)
    with pytest.raises(UsageError, match=f"{CHAIN}, but .* side by side"):
        explain.rollout(model, images)


class Idle(ViT):
    """The second block of three feeds a head whose result is not used."""

    def __init__(self):
        super().__init__(depth=3)

    def through(self, x: Tensor) -> Tensor:
        x = x + self.blocks[0](x)
        self.unused = self.head(self.blocks[1](x))
        return x + self.blocks[2](x)


def test_a_layer_that_feeds_no_answer_is_not_multiplied_and_does_not_hide_the_reader(images):
    model = made(Idle())
    found = explain.rollout(model, images)
    read = explain.rollout(model, images, layers=["blocks.0", "blocks.2"])
    torch.testing.assert_close(torch.tensor(found.values), torch.tensor(read.values))
    assert "The output does not depend on blocks.1, so it is left out" in found.caption
    with pytest.raises(UsageError, match=r"the output does not depend on blocks\.1"):
        explain.rollout(model, images, layers=["blocks.0", "blocks.1"])
    assert explain.attention(model, images).reader == "CLS"


class Mirrored(ViT):
    """One block sees the image, another its mirror image; what both say is added up."""

    def forward(self, images: Tensor) -> Tensor:
        x, y = self.tokens(images), self.tokens(images.flip(3))
        return self.read(x + self.blocks[0](x) + y + self.blocks[1](y))


class Siamese(ViT):
    def forward(self, images: Tensor, others: Tensor | None = None) -> Tensor:
        x, y = self.tokens(images), self.tokens(images.new_ones(images.shape) if others is None else others)
        return self.read(x + self.blocks[0](x) + y + self.blocks[1](y))


@pytest.mark.parametrize("model", [Mirrored, Siamese])
def test_calls_on_other_patches_are_no_further_heads(model, images):
    model = made(model())
    first, second = see_attention(model, images).layers
    assert first.num_heads == second.num_heads == 2
    assert first.tokens.patch_tokens == tuple(range(1, 17))
    if model.__class__ is Mirrored:
        mirrored = [1 + row * 4 + 3 - column for row in range(4) for column in range(4)]
        assert second.tokens.patch_tokens == tuple(mirrored)
    else:
        with pytest.raises(UsageError):
            _ = second.tokens


class Decoder(nn.Module):
    """As many learned queries as patches, in PyTorch's own transformer."""

    def __init__(self):
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 5)
        self.queries = nn.Parameter(torch.randn(1, 16, 16))
        self.transformer = nn.Transformer(16, 2, 1, 2, 32, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).mT
        return self.head(self.transformer(x, self.queries.expand(len(x), -1, -1)).mean(1))


def test_queries_that_are_no_patches_are_not_called_so(images):
    model = made(Decoder())
    encoder, first, cross, second, last = see_attention(model, images).layers
    assert encoder.queries_are_keys and not cross.queries_are_keys and not last.queries_are_keys
    assert cross.tokens.grid == encoder.tokens.grid == (4, 4)
    for layer in (first, second):
        with pytest.raises(UsageError, match="places in the image are not known"):
            _ = layer.tokens


class TokensFirst(ViT):
    """PyTorch's own encoder as it is by default: (tokens, batch, width)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 2, enable_nested_tensor=False)

    def through(self, x: Tensor) -> Tensor:
        return self.encoder(x.transpose(0, 1)).transpose(0, 1)


@pytest.mark.parametrize("count", [1, 2, 17])
def test_the_reader_is_found_where_tokens_come_before_images(count):
    model, images = made(TokensFirst()), torch.randn(count, 3, 16, 16)
    maps = explain.attention(model, images)
    assert maps.reader == "CLS"
    rows = see_attention(model, images).layers[-1].weights()[:, :, 0, 1:]
    shown = torch.from_numpy(maps.values)[:, -1].flatten(2)
    torch.testing.assert_close(shown, 16 * rows / rows.sum(-1, keepdim=True), rtol=1e-4, atol=1e-5)


class Difference(Attention):
    """A₁ v - λ A₂ v (Ye et al. 2024, "Differential Transformer", eq. 1)."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        (q1, q2), (k1, k2) = q.chunk(2, -1), k.chunk(2, -1)
        return self.weights(q1, k1) @ v - 0.4 * (self.weights(q2, k2) @ v)


def test_attention_that_is_subtracted_is_no_further_head(images):
    layers = see_attention(made(ViT(Difference)), images).layers
    assert [layer.num_heads for layer in layers] == [2, 2, 2, 2]


class Twice(Attention):
    """The same weights multiply two halves of the values."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = self.weights(q, k)
        return torch.cat([weights @ half for half in v.chunk(2, -1)], -1)


def test_weights_that_multiply_twice_are_not_twice_as_many_heads(images):
    model = made(ViT(Twice))
    seen = see_attention(model, images)
    assert all(layer.num_heads == 2 for layer in seen.layers)
    assert "it multiplies values twice" in seen.missed[0]
    with pytest.raises(UsageError, match="some attention could not be recorded"):
        explain.chefer(model, images)


class OverQueries(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return (q @ k.mT).softmax(-2)


class Sinkhorn(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        self.kept = (q @ k.mT * 0.1).exp()
        for _ in range(3):
            self.kept = self.kept / self.kept.sum(-2, keepdim=True)
            self.kept = self.kept / self.kept.sum(-1, keepdim=True)
        return self.kept


def test_a_softmax_over_queries_is_no_attention(images):
    with pytest.raises(WatchError, match="multiplied over an axis other than the one that sums to 1"):
        see_attention(made(ViT(OverQueries)), images)


def test_rows_that_are_normalised_last_are_attention(images):
    model = made(ViT(Sinkhorn, depth=3))
    seen = see_attention(model, images)
    assert len(seen.layers) == 3
    for layer, block in zip(seen.layers, model.blocks):
        torch.testing.assert_close(layer.weights(), block.kept)


class Mixed(Attention):
    """Heads that learned weights mix, as an einsum."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.rand(2, 2))

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        self.kept = torch.einsum("bhij,hg->bgij", super().weights(q, k), self.mix)
        return self.kept

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.einsum("bhij,bhjd->bhid", self.weights(q, k), v)


class OnAMap(Attention):
    """Queries and keys keep their rows and columns."""

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        scores = torch.einsum("bhyxe,bhuwe->bhyxuw", *(part.unflatten(2, (4, 4)) for part in (q, k)))
        self.kept = scores.flatten(-2).softmax(-1)
        return self.kept

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.einsum("bhyxm,bhme->bhyxe", self.weights(q, k), v).flatten(2, 3)


@pytest.mark.parametrize("attention", [Mixed, OnAMap])
@pytest.mark.parametrize("count", [1, 3])
def test_heads_and_queries_are_told_apart_in_an_einsum(attention, count, images):
    model = made(ViT(attention, has_cls=False))
    for layer, block in zip(see_attention(model, images[:count]).layers, model.blocks, strict=True):
        torch.testing.assert_close(layer.weights(), block.kept.reshape(count, 2, 16, 16))


class Negative(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return super().weights(q, k) - 1 / k.shape[-2]


def test_negative_weights_are_no_shares(images):
    model = made(ViT(Negative))
    for method in (explain.attention, explain.query_grid):
        with pytest.raises(UsageError, match=r"Some of the weights .* are negative"):
            method(model, images)


class WithoutSoftmax(Attention):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return (q @ k.mT).sigmoid()


class Linear(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q.sigmoid() @ (k.sigmoid().mT @ v)


@pytest.mark.parametrize("last", [WithoutSoftmax, Linear])
def test_a_block_that_mixes_tokens_in_another_way_is_listed(last, images):
    model = ViT(depth=3)
    model.blocks[2] = last()
    seen = see_attention(made(model), images)
    assert len(seen.layers) == 2 and all("in blocks.2, line" in missed for missed in seen.missed) and seen.missed
    with pytest.raises(UsageError, match="some attention could not be recorded"):
        explain.rollout(model, images)


def moved_windows(move, back):
    """Attention within windows of 2 x 2, after the map was moved."""

    class Windows(ViT):
        def through(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                grid = move(x.unflatten(1, (4, 4)))
                windows = rearrange(grid, "b (y p) (x q) d -> (b y x) (p q) d", p=2, q=2)
                out = rearrange(block(windows), "(b y x) (p q) d -> b (y p) (x q) d", y=2, x=2, p=2)
                x = x + back(out).flatten(1, 2)
            return x

    return Windows


MOVES = {
    "rolled": (lambda x: x.roll((-1, -1), (1, 2)), lambda x: x.roll((1, 1), (1, 2))),
    "rolled, channels first": (
        lambda x: x.permute(0, 3, 1, 2).roll((-1, -1), (2, 3)).permute(0, 2, 3, 1),
        lambda x: x.roll((1, 1), (1, 2)),
    ),
    "rolled by cat": (lambda x: torch.cat([x[:, 1:], x[:, :1]], 1), lambda x: torch.cat([x[:, -1:], x[:, :-1]], 1)),
    "flipped": (lambda x: x.flip(2), lambda x: x.flip(2)),
    "transposed": (lambda x: x.transpose(1, 2), lambda x: x.transpose(1, 2)),
}


@pytest.mark.parametrize("move", MOVES)
def test_windows_are_where_their_tokens_came_from(move, images):
    model = made(moved_windows(*MOVES[move])(has_cls=False))
    numbers = MOVES[move][0](torch.arange(16.0).reshape(1, 4, 4, 1))
    expected = rearrange(numbers, "1 (y p) (x q) 1 -> (y x) (p q)", p=2, q=2).int().tolist()
    for layer in see_attention(model, images).layers:
        assert layer.windows is not None and sorted(layer.windows.places.tolist()) == sorted(expected)


class ByIndex(ViT):
    """The tokens that are kept, and their order, are an argument."""

    def forward(self, images: Tensor, kept: Tensor) -> Tensor:
        x = self.tokens(images)
        return self.read(self.through(torch.cat([x[:, :1], x[:, 1:].gather(1, kept[..., None].expand(-1, -1, 16))], 1)))


def test_an_order_that_is_an_argument_is_measured_for_each(images):
    model = made(ByIndex())
    for seed in (0, 1):
        order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
        for layer in see_attention(model, images, order.expand(3, -1)).layers:
            assert layer.tokens.patch_tokens == tuple(1 + order.tolist().index(patch) for patch in range(16))
    each = torch.stack([torch.randperm(16) for _ in images])
    with pytest.raises(UsageError, match="places in the image are not known"):
        _ = see_attention(model, images, each).layers[0].tokens


class AtRandom(ViT):
    def tokens(self, images: Tensor) -> Tensor:
        x = super().tokens(images)
        return torch.cat([x[:, :1], x[:, 1:][:, torch.randperm(16)]], 1)


class ImageByImage(Attention):
    """A loop over the images and the heads, as in courses."""

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(torch.stack([self.one(tokens) for tokens in x]))

    def one(self, tokens: Tensor) -> Tensor:
        parts = self.qkv(tokens).unflatten(1, (3, 2, 8)).permute(1, 2, 0, 3)
        return torch.cat([self.weights(q, k) @ v for q, k, v in parts.unbind(1)], -1)


def test_tokens_in_a_random_order_have_no_places(images):
    with pytest.raises(UsageError, match="places in the image are not known"):
        _ = see_attention(made(AtRandom()), images).layers[0].tokens


def test_a_loop_over_images_is_seen_one_image_at_a_time(images):
    model = made(ViT(ImageByImage))
    with pytest.raises(UsageError, match="Give the model one image at a time"):
        explain.attention(model, images)
    for image in images:
        layers = see_attention(model, image[None]).layers
        assert [layer.num_heads for layer in layers] == [2, 2]
        assert layers[0].tokens.patch_tokens == tuple(range(1, 17))


def test_a_part_of_a_model_is_not_measured(images):
    model = made(ViT())
    with torch.no_grad(), watch(model, rows=[0]) as seen:
        model.through(model.tokens(images))
    with pytest.raises(UsageError, match="measured only when the model itself"):
        _ = seen.layers[0].tokens


def test_softmax_that_is_written_into_a_tensor_is_seen(images):
    class Out(Attention):
        def weights(self, q: Tensor, k: Tensor) -> Tensor:
            scores = q @ k.mT
            return torch.softmax(scores, -1, out=torch.empty_like(scores))

    with torch.no_grad():
        assert len(see_attention(made(ViT(Out)), images).layers) == 2


class SignedMixing(Attention):
    """Heads that a convolution mixes, with weights of both signs (Shazeer et al. 2020, "Talking-Heads Attention")."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(2, 2, 1)
        with torch.no_grad():
            self.mix.weight.copy_(torch.tensor([[1.0, -1.5], [0.5, 1.0]])[:, :, None, None])

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return self.mix(super().weights(q, k))


def test_no_method_takes_negative_weights_for_shares(images):
    model = made(ViT(SignedMixing))
    for method in (explain.attention, explain.rollout, explain.chefer, explain.attention_gradient):
        with pytest.raises(UsageError, match=r"Some of the weights .* are negative"):
            method(model, images)


class TwoEmbeddings(nn.Module):
    """Two streams with patches of one size, a block each, whose answers are added up."""

    def __init__(self):
        super().__init__()
        self.a, self.b = ViT(depth=1), ViT(depth=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.a(images) + self.b(images)


def test_streams_that_were_embedded_apart_are_no_heads_of_one_layer(images):
    layers = see_attention(made(TwoEmbeddings()), images).layers
    assert [layer.num_heads for layer in layers] == [2, 2]


class Views(ViT):
    """An image and its mirror image, one after the other in the batch; their answers are averaged."""

    num_prefix_tokens, grid = 1, (4, 4)

    def forward(self, images: Tensor) -> Tensor:
        views = torch.stack([images, images.flip(3)], 1).flatten(0, 1)
        return super().forward(views).unflatten(0, (-1, 2)).mean(1)


def test_views_of_an_image_are_not_taken_for_images(images):
    with pytest.raises(UsageError, match="attends to the same patches in several groups of tokens per image"):
        explain.attention(made(Views()), images)


class StackedQueries(Attention):
    """Both heads' queries behind one another, for one head of keys."""

    def __init__(self):
        super().__init__()
        self.keys = nn.Linear(16, 8)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        stacked = torch.cat([q[:, 0], q[:, 1]], 1)[:, None]
        return (self.weights(stacked, k[:, :1]) @ v[:, :1])[:, 0].unflatten(1, (2, -1))


def test_queries_of_which_it_is_not_known_which_are_read_are_not_said_to_be(images):
    class Detached(ViT):
        def read(self, x: Tensor) -> Tensor:
            return super().read(x.detach())

    maps = explain.attention(made(Detached(StackedQueries)), images)
    assert maps.reader == "the mean of all 34 queries" and not maps.of_answer
    assert "the mean of all tokens is assumed" in maps.caption


def test_of_queries_that_are_no_tokens_those_that_are_read_are_measured_in_the_attention(images):
    model = made(ViT(StackedQueries))
    maps = explain.attention(model, images)
    assert maps.reader == "the mean of the 2 tokens that the prediction is read from" and maps.of_answer
    last = see_attention(model, images).layers[-1]
    row = last.tokens.patches(last.rows([0, 17]).mean(2))  # CLS, by its query in each head
    expected = row * 16 / row.sum(-1, keepdim=True)
    torch.testing.assert_close(torch.tensor(maps.values[:, -1]).flatten(2), expected)


class ReadEachOther(nn.Module):
    """Two streams of patches that read each other in every block, as in a model of two views."""

    def __init__(self, depth: int = 3):
        super().__init__()
        self.a, self.b = ViT(depth=depth), ViT(depth=depth)

    def forward(self, images: Tensor) -> Tensor:
        a, b = self.a.tokens(images), self.b.tokens(images)
        for of_a, of_b in zip(self.a.blocks, self.b.blocks):
            a, b = a + self.cross(of_a, a, b), b + self.cross(of_b, b, a)
        return self.a.read(a) + self.b.read(b)

    def cross(self, block: Attention, x: Tensor, other: Tensor) -> Tensor:
        q, (_, k, v) = block.split(x)[0], block.split(other)
        return block.proj(rearrange(block.attend(q, k, v), "b h n e -> b n (h e)"))


def test_streams_that_read_each_other_are_no_heads_of_one_layer(images):
    layers = see_attention(made(ReadEachOther()), images).layers
    assert [layer.num_heads for layer in layers] == [2] * 6


class CropsItself(ViT):
    """Sees the middle of its images, or a corner of them."""

    def __init__(self, margins: tuple[int, int, int, int], overlap: int = 0):
        super().__init__()
        self.margins, self.patch = margins, nn.Conv2d(3, 16, 4 + 2 * overlap, 4, overlap)

    def forward(self, images: Tensor) -> Tensor:
        top, bottom, left, right = self.margins
        return super().forward(images[:, :, top : images.shape[2] - bottom, left : images.shape[3] - right])


@pytest.mark.parametrize("overlap", [0, 1])
@pytest.mark.parametrize("margins", [(4, 4, 4, 4), (8, 0, 8, 0), (0, 8, 0, 8), (0, 0, 8, 8)])
def test_a_model_that_crops_its_images_is_not_shown_over_the_whole_image(margins, overlap):
    top, bottom, left, right = margins
    images = torch.randn(1, 3, 16 + top + bottom, 16 + left + right)
    with pytest.raises(UsageError, match=r"(?s)patches of only a part of the image|places in the image are not known"):
        explain.attention(made(CropsItself(margins, overlap)), images)


class SetOrder(ViT):
    """The order of the tokens is a setting, or a buffer, that may be changed between two runs."""

    def __init__(self, in_buffer: bool):
        super().__init__()
        order = torch.arange(16)
        self.order = list(range(16))
        if in_buffer:
            del self.order
            self.register_buffer("order", order)

    def tokens(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).mT[:, self.order]
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos

    def turn(self) -> None:
        if isinstance(self.order, Tensor):
            self.order.copy_(self.order.flip(0))
        else:
            self.order = self.order[::-1]


@pytest.mark.parametrize("in_buffer", [False, True])
def test_a_setting_that_was_changed_is_measured_again(in_buffer, images):
    model = made(SetOrder(in_buffer))
    before = see_attention(model, images).layers[0].tokens.patch_tokens
    model.turn()
    assert see_attention(model, images).layers[0].tokens.patch_tokens == before[::-1]


def test_a_given_number_of_prefix_tokens_is_compared_with_what_was_measured(images):
    model = made(ViT())
    with torch.no_grad(), watch(model, "all", num_prefix_tokens=1) as seen:
        model(images)
    assert seen.layers[0].tokens.patch_tokens == tuple(range(1, 17))
    with torch.no_grad(), watch(model, "all", num_prefix_tokens=0) as seen:
        model(images)
    with pytest.raises(UsageError, match=r"num_prefix_tokens=0 was given.*did not change were \[0\]"):
        _ = seen.layers[0].tokens
