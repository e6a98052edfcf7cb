"""A packed model is the same function, and plain wherever more than numbers is asked of it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tiny import redraw, tiny_vit
from vitral import watch
from vitral.base.errors import ConfigError
from vitral.nn.family.swin import SwinTransformer
from vitral.nn.packed import PackedLinear, packed

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


def swin():
    return redraw(SwinTransformer(32, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4, num_classes=5))


def by_hand():
    """Linear maps in a list, one of them twice, one without a bias."""
    twice = nn.Linear(18, 18, bias=False)
    return redraw(
        nn.Sequential(nn.Flatten(2), nn.Linear(144, 18), nn.GELU(), twice, twice, nn.Flatten(), nn.Linear(54, 5))
    )


MODELS = {"ViT": (tiny_vit, (8, 18)), "Swin": (swin, (32, 32)), "by hand": (by_hand, (8, 18))}


@pytest.mark.parametrize(("make", "size"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("batch", [1, 3])
def test_it_answers_the_same(make, size, batch):
    model, images = make(), torch.randn(batch, 3, *size)
    fast = packed(model)
    with torch.no_grad():
        torch.testing.assert_close(fast(images), model(images), rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(fast(images), model(images), rtol=1e-5, atol=1e-5)
    assert not any(type(part) is nn.Linear for part in fast.modules())
    assert not any(isinstance(part, PackedLinear) for part in model.modules())


def test_it_shares_parameters_and_follows_them():
    model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
    fast = packed(model)
    assert all(one is other for one, other in zip(model.parameters(), fast.parameters(), strict=True))
    assert model.state_dict().keys() == fast.state_dict().keys()
    with torch.no_grad():
        before = fast(images)
        for change in (lambda: model.load_state_dict(tiny_vit(seed=1).state_dict()), lambda: redraw(model, 2)):
            change()
            torch.testing.assert_close(fast(images), model(images), rtol=1e-5, atol=1e-5)
        assert (fast(images) - before).abs().max() > 1e-2


def test_gradients_are_the_plain_models():
    model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
    one, other = (made(images.clone().requires_grad_()) for made in (model, packed(model)))
    assert torch.equal(one, other)
    for parameter, gradient in zip(model.parameters(), torch.autograd.grad(other.sum(), list(model.parameters()))):
        assert gradient.shape == parameter.shape


def test_other_types_and_autocast_are_the_plain_models():
    model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
    fast = packed(model)
    with torch.no_grad():
        fast(images)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(fast(images), model(images))
        assert torch.equal(fast.double()(images.double()), model.double()(images.double()))
        fast.float()
        torch.testing.assert_close(fast(images), model.float()(images), rtol=1e-5, atol=1e-5)


def test_it_is_watched_and_copied_like_any_other():
    model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
    fast = packed(model)
    with torch.no_grad():
        with watch(fast) as seen:
            fast(images)
        with watch(model) as plain:
            model(images)
        torch.testing.assert_close(seen.layers[-1].rows([0]), plain.layers[-1].rows([0]), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(copy.deepcopy(fast)(images), fast(images))


def test_what_cannot_be_packed_is_refused():
    for model, words in (
        (tiny_vit().train(), r"call model\.eval\(\) first"),
        (tiny_vit().double(), r"cls_token is torch\.float64 on cpu"),
        (nn.Conv2d(3, 4, 2).eval(), r"Conv2d has no nn\.Linear"),
    ):
        with pytest.raises(ConfigError, match=words):
            packed(model)


def test_a_hidden_layer_is_gelu_of_its_map():
    linear, x = nn.Linear(16, 24), torch.randn(5, 16)
    with torch.no_grad():
        torch.testing.assert_close(PackedLinear(linear, gelu=True)(x), F.gelu(linear(x)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(16),
        torch.randn(0, 16),
        torch.randn(2, 3, 4, 16),
        torch.randn(16, 6).T,
        torch.randn(1, 16).expand(5, 16),
    ],
    ids=["one row", "none", "four axes", "transposed", "repeated"],
)
def test_rows_of_any_shape_and_layout(x):
    linear = nn.Linear(16, 24)
    with torch.no_grad():
        torch.testing.assert_close(PackedLinear(linear)(x), linear(x), rtol=1e-5, atol=1e-5)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_what_computes_otherwise_stays_as_it_is():
    """A subclass, and a hook; both inside an MLP, whose other map is packed."""
    model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
    model.blocks[0].mlp.fc1 = redraw(Doubled(16, 32))
    model.blocks[1].mlp.fc2.register_forward_hook(lambda module, given, made: made + 1)
    model.blocks[2].attn.qkv.register_forward_pre_hook(lambda module, given: (given[0] - 1,))
    fast = packed(model)
    with torch.no_grad():
        torch.testing.assert_close(fast(images), model(images), rtol=1e-5, atol=1e-5)
    assert isinstance(fast.blocks[0].mlp.fc2, PackedLinear) and type(fast.blocks[0].mlp.fc1) is Doubled


def test_a_model_that_was_made_for_inference_only():
    with torch.inference_mode():
        model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
        torch.testing.assert_close(packed(model)(images), model(images), rtol=1e-5, atol=1e-5)
