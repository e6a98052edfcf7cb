"""What asks, and what runs side by side, is measured, too: queries that are no patches, views that are no heads,
weights that are factors of others, results that are added up."""

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from plain_vit import Attention, ViT, made
from tiny import see_attention
from vitral import explain
from vitral.base.errors import UsageError, WatchError
from vitral.recording.intercept import NothingSeen


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Latents(ViT):
    """As many latents as patches read the patches, then each other (Jaegle et al. 2021, "Perceiver")."""

    def __init__(self):
        super().__init__(has_cls=False)
        self.latents, self.read_in = nn.Parameter(torch.randn(1, 16, 16)), Attention()

    def through(self, x: Tensor) -> Tensor:
        z = self.latents.expand(len(x), -1, -1)
        q, (_, k, v) = self.read_in.split(z)[0], self.read_in.split(x)
        return super().through(z + rearrange(self.read_in.attend(q, k, v), "b h n e -> b n (h e)"))


class SinkBehind(Attention):
    """CLS asks and is no key; a learned sink is a key behind the patches."""

    def __init__(self):
        super().__init__()
        self.sink = nn.Parameter(torch.randn(1, 1, 16))

    def forward(self, x: Tensor) -> Tensor:
        q = self.split(x)[0]
        _, k, v = self.split(torch.cat([x[:, 1:], self.sink.expand(len(x), -1, -1)], 1))
        return self.proj(rearrange(self.attend(q, k, v), "b h n e -> b n (h e)"))


class ReversedQueries(Attention):
    """The queries stand in the opposite order, and are never put back."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().attend(q.flip(2), k, v)


@pytest.mark.parametrize("model", [Latents(), ViT(SinkBehind), ViT(ReversedQueries, has_cls=False)])
def test_queries_that_are_no_keys_are_not_multiplied_with_others(model, images):
    first = see_attention(made(model), images).layers[0]
    assert first.num_queries == first.num_tokens and not first.queries_are_keys
    assert "cls" not in first.roles
    for method in (explain.rollout, explain.chefer):
        with pytest.raises(UsageError, match="so all of them must have the same tokens"):
            method(model, images)


class TalkingHeads(Attention):
    """Weights of heads are mixed after the softmax (Shazeer et al. 2020, "Talking-Heads Attention")."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.rand(2, 2).softmax(-1))

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return torch.einsum("bhnm,hg->bgnm", super().weights(q, k), self.mix)


class ByPlace(Attention):
    """Weights that depend on the place only (Tay et al. 2021, "Synthesizer")."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, 17, 17))

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return self.table.softmax(-1).expand(len(q), -1, -1, -1)


class Biased(Attention):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(2, 17, 17))

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return (q @ k.mT * 0.35 + self.bias).softmax(-1)


@pytest.mark.parametrize("attention", [Attention, TalkingHeads, ByPlace, Biased])
def test_tokens_that_ask_each_other_stay_so(attention, images):
    assert all(layer.queries_are_keys for layer in see_attention(made(ViT(attention)), images).layers)


class PerChannel(ViT):
    """Each colour runs through the model by itself; the answers are averaged."""

    def forward(self, images: Tensor) -> Tensor:
        grey = images.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
        return super().forward(grey).unflatten(0, (-1, 3)).mean(1)


class Twice(ViT):
    """The image and a darker one stand behind one another in the batch."""

    def forward(self, images: Tensor) -> Tensor:
        first, second = super().forward(torch.cat([images, images / 2])).chunk(2)
        return first + second


@pytest.mark.parametrize("model", [PerChannel(), Twice()])
def test_views_that_hold_the_same_patches_are_no_heads(model, images):
    for method in (explain.attention, explain.rollout, explain.chefer):
        with pytest.raises(UsageError, match="attends to the same patches in several groups of tokens per image"):
            method(made(model), images)
    with pytest.raises(WatchError, match="no block returns patches whose places are known"):
        explain.grad_cam(model, images)


class Flipped(ViT):
    def through(self, x: Tensor) -> Tensor:
        x = x + self.blocks[0](x)
        return x + self.blocks[1](x.flip(1)).flip(1)


def test_four_patches_are_enough_to_see_another_order():
    model = made(Flipped(has_cls=False))
    model.pos = nn.Parameter(torch.randn(1, 4, 16))
    first, second = see_attention(model, torch.randn(1, 3, 8, 8)).layers
    assert first.tokens.patch_tokens == (0, 1, 2, 3) and second.tokens.patch_tokens == (3, 2, 1, 0)


class Efficient(Attention):
    """Softmax of the keys over the tokens, of the queries over the features (Shen et al. 2021, "Efficient
    Attention", eq. 3)."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q.softmax(-1) @ (k.softmax(-2).mT @ v)


class Agents(Attention):
    """Tokens read a few agents, which read the tokens (Han et al. 2024, "Agent Attention", eq. 4)."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        agents = q[:, :, :4]
        read = nn.functional.scaled_dot_product_attention
        return read(q, agents, read(agents, k, v))


@pytest.mark.parametrize("attention", [Efficient, Agents])
def test_factors_of_attention_are_not_shown_as_attention(attention, images):
    with pytest.raises(NothingSeen, match="one of two factors"):
        see_attention(made(ViT(attention)), images)


class Added(nn.Module):
    """One attention less another (Ye et al. 2024, "Differential Transformer", eq. 1), written in several ways."""

    def __init__(self, form: str):
        super().__init__()
        self.one, self.other, self.form = Attention(), Attention(), form
        self.factor = nn.Parameter(torch.tensor(-0.5))

    def forward(self, x: Tensor) -> Tensor:
        a, b = (part.attend(*part.split(x)) for part in (self.one, self.other))
        factor = self.factor
        out = {
            "sub": lambda: a - 0.5 * b,
            "add": lambda: a + factor * b,
            "addcmul": lambda: torch.addcmul(a, factor, b),
            "stack": lambda: torch.stack([a, factor * b]).sum(0),
        }[self.form]()
        return self.one.proj(rearrange(out, "b h n e -> b n (h e)"))


@pytest.mark.parametrize("form", ["sub", "add", "addcmul", "stack"])
def test_results_that_are_added_up_are_no_heads_side_by_side(form, images):
    model = made(ViT(lambda: Added(form)))
    assert [layer.num_heads for layer in see_attention(model, images).layers] == [2] * 4
    with pytest.raises(UsageError, match="run side by side"):
        explain.rollout(model, images)


class RegistersFirst(ViT):
    """Two registers, CLS, then the patches."""

    def __init__(self):
        super().__init__()
        self.reg_token, self.pos = nn.Parameter(torch.randn(1, 2, 16)), nn.Parameter(torch.randn(1, 19, 16))

    def tokens(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).mT
        learned = (one.expand(len(x), -1, -1) for one in (self.reg_token, self.cls_token))
        return torch.cat([*learned, x], 1) + self.pos

    def read(self, x: Tensor) -> Tensor:
        return self.head(x[:, 2])


def test_learned_tokens_have_their_names_in_any_order(images):
    model = made(RegistersFirst())
    assert see_attention(model, images).layers[0].roles[:3] == ("register 0", "register 1", "cls")
    assert explain.attention(model, images).reader == "CLS"
    assert {name for name, _ in model.named_parameters()} >= {"reg_token", "cls_token"}


class MixesLayers(ViT):
    """Reads a learned mean of what all blocks wrote (Peters et al. 2018, "ELMo", eq. 1)."""

    def __init__(self):
        super().__init__(depth=3)
        self.share = nn.Parameter(torch.randn(3))

    def through(self, x: Tensor) -> Tensor:
        written = []
        for block in self.blocks:
            x = x + block(x)
            written.append(x)
        return torch.einsum("l,lbnd->bnd", self.share.softmax(0), torch.stack(written))


def test_a_learned_mean_of_layers_is_no_attention(images):
    seen = see_attention(made(MixesLayers()), images)
    assert len(seen.layers) == 3 and not seen.missed


class InList(ViT):
    """The blocks stand in a plain list, of which PyTorch knows nothing."""

    def __init__(self):
        super().__init__()
        del self.blocks
        self.blocks = [Attention().eval() for _ in range(2)]


def test_blocks_in_a_plain_list_are_the_models_own(images):
    seen = see_attention(made(InList()), images)
    assert len(seen.layers) == 2 and not seen.missed


def test_a_list_of_images_has_no_places_that_are_guessed():
    class Packed(ViT):
        def forward(self, pictures: list[Tensor]) -> Tensor:
            tokens = [self.patch(one[None]).flatten(2).mT for one in pictures]
            return self.head(self.through(torch.cat(tokens, 1)).mean(1))

    layers = see_attention(made(Packed()), [torch.randn(3, 8, 8) for _ in range(4)]).layers
    with pytest.raises(UsageError, match="whose places in the image are not known"):
        _ = layers[0].tokens


class MultiQueryPool(ViT):
    """One learned query of four heads, which share one head of keys and values."""

    def __init__(self):
        super().__init__(has_cls=False)
        self.query, self.to_keys = nn.Parameter(torch.randn(4, 1, 8)), nn.Linear(16, 16)

    def read(self, x: Tensor) -> Tensor:
        k, v = self.to_keys(x).chunk(2, -1)
        self.kept = torch.einsum("hie,bje->bhij", self.query, k).softmax(-1)
        pooled = torch.einsum("bhij,bje->bhie", self.kept, v)
        return pooled.flatten(1)[:, :5]


@pytest.mark.parametrize("count", [1, 2])
def test_a_pools_heads_are_not_its_queries(count, images):
    model = made(MultiQueryPool())
    pool = see_attention(model, images[:count]).layers[-1]
    assert torch.equal(pool.weights(), model.kept) and pool.num_heads == 4 and pool.num_queries == 1
