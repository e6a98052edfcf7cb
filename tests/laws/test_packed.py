"""A packed model is the same function, and plain wherever more than numbers is asked of it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from tiny import redraw, tiny_vit
from vitral import watch
from vitral.base.errors import ConfigError
from vitral.nn.family.cnn import ResNet
from vitral.nn.family.swin import SwinTransformer
from vitral.nn.mlp import MLP
from vitral.nn.packed import PackedLinear, packed

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


def swin():
    return redraw(SwinTransformer(32, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4, num_classes=5))


def by_hand():
    """Linear maps in a list, one of them twice, one without a bias."""
    twice = nn.Linear(18, 18, bias=False)
    parts = nn.Flatten(2), nn.Linear(144, 18), nn.GELU(), twice, twice, nn.Flatten(), nn.Linear(54, 5)
    return redraw(nn.Sequential(*parts))


MODELS = {"ViT": (tiny_vit, (8, 18)), "Swin": (swin, (32, 32)), "by hand": (by_hand, (8, 18))}


@pytest.mark.parametrize(("make", "size"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("batch", [1, 3])
def test_it_answers_the_same(make, size, batch):
    model, images = make(), torch.randn(batch, 3, *size)
    fast = packed(model)
    for without_gradients in (torch.no_grad, torch.inference_mode):
        with without_gradients():
            torch.testing.assert_close(fast(images), model(images), rtol=1e-5, atol=1e-5)
    assert not any(type(part) is nn.Linear for part in fast.modules())
    assert not any(isinstance(part, PackedLinear) for part in model.modules())


CHANGES = {
    "an optimiser of one kernel": lambda model: stepped(model, torch.optim.AdamW),
    "momentum of one kernel": lambda model: stepped(model, torch.optim.SGD),
    "numbers that are not counted": lambda model: [p.data.mul_(2) for p in model.parameters()],
    "other weights": lambda model: redraw(model, 2),
}


def stepped(model, kind):
    optimizer = kind(model.parameters(), lr=0.1, fused=True)
    with torch.enable_grad():
        model(torch.randn(2, 3, 8, 18)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_is_a_snapshot_that_no_change_of_the_model_reaches(change):
    """In every weight, also those that are not packed: it never answers with some of the old and some of the new."""
    model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
    fast = packed(model)
    assert fast.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        before, again = model(images), packed(model)
        change(model)
        torch.testing.assert_close(fast(images), before, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(again(images), before, rtol=1e-5, atol=1e-5)
        assert (model(images) - before).abs().max() > 1e-2
        torch.testing.assert_close(packed(model)(images), model(images), rtol=1e-5, atol=1e-5)


def test_it_cannot_be_trained_in_part():
    fast = packed(tiny_vit())
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert all(parameter.requires_grad for parameter in tiny_vit().parameters())


def test_weights_put_into_it_are_those_it_answers_with():
    """By loading, by exchange for one call, and by training it after all."""
    model, other, images = tiny_vit(), tiny_vit(seed=1), torch.randn(2, 3, 8, 18)
    fast = packed(model)
    with torch.no_grad():
        for _ in range(3):
            weights = {name: tensor.clone() for name, tensor in other.state_dict().items()}
            exchanged = torch.func.functional_call(fast, weights, images)
            torch.testing.assert_close(exchanged, other(images), rtol=1e-5, atol=1e-5)
        for how in (dict(assign=True), {}):
            fast = packed(model)
            fast.load_state_dict(other.state_dict(), **how)
            torch.testing.assert_close(fast(images), other(images), rtol=1e-5, atol=1e-5)
        fast = packed(model).requires_grad_(True)
        CHANGES["an optimiser of one kernel"](fast)
        model.load_state_dict(fast.state_dict())
        torch.testing.assert_close(fast(images), model(images), rtol=1e-5, atol=1e-5)


def test_gradients_are_the_plain_models():
    model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
    (one, by_one), (other, by_other) = (with_gradient(own, images) for own in (model, packed(model)))
    assert torch.equal(one, other) and torch.equal(by_one, by_other) and by_one.any()


def with_gradient(model, images):
    images = images.clone().requires_grad_()
    made = model(images)
    return made, torch.autograd.grad(made.square().sum(), images)[0]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of PyTorch's own forward gradients
@pytest.mark.filterwarnings("ignore:TF32:UserWarning")  # and of turning oneDNN off
def test_transforms_forward_gradients_and_counters_see_the_plain_model():
    model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
    maps, x, along = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4)).eval(), torch.randn(8, 16), torch.randn(8, 16)
    fast, fast_maps = packed(model), packed(maps)
    with torch.no_grad():
        assert torch.equal(torch.vmap(fast_maps)(x), torch.vmap(maps)(x))
        moved = along @ (maps[1].weight @ maps[0].weight).T
        torch.testing.assert_close(torch.func.jvp(fast_maps, (x,), (along,))[1], moved)
        with forward_ad.dual_level():
            dual = fast_maps(forward_ad.make_dual(x, along))
            torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, moved)
        with FlopCounterMode(display=False) as counter:
            fast_maps(x)
        assert counter.get_total_flops() == 2 * 8 * (16 * 16 + 16 * 4)
        with torch.backends.mkldnn.flags(enabled=False):
            assert torch.equal(fast(images), model(images))


@pytest.mark.parametrize("shape", [(2, 15), (4, 4), (2, 32), (15,)])
def test_rows_of_another_width_get_pytorchs_own_sentence(shape):
    model = nn.Linear(16, 24).eval()
    said = []
    for own in (model, packed(model)):
        with torch.no_grad(), pytest.raises(RuntimeError) as caught:
            own(torch.randn(shape))
        said.append(str(caught.value))
    assert said[0] == said[1] and "cannot be multiplied" in said[0]


def test_other_types_and_autocast_are_the_plain_models():
    model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
    fast = packed(model)
    with torch.no_grad():
        fast(images)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(fast(images), model(images))
        assert torch.equal(fast.double()(images.double()), model.double()(images.double()))
        again = copy.deepcopy(fast).float()
        fast.half().float()
        torch.testing.assert_close(again(images), model.float()(images), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(fast(images), model.half().float()(images), rtol=1e-5, atol=1e-5)
        with pytest.raises(RuntimeError, match="type"):
            fast.double()(images)


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
    pruned = nn.Sequential(prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)).eval()
    for model, words in (
        (tiny_vit().train(), r"call model\.eval\(\) first"),
        (tiny_vit().double(), r"has no plain nn\.Linear in float32 on a CPU"),
        (nn.Conv2d(3, 4, 2).eval(), r"Conv2d has no plain nn\.Linear"),
        (pruned, "This Sequential cannot be copied"),
    ):
        with pytest.raises(ConfigError, match=words):
            packed(model)


def test_a_hidden_layer_is_gelu_of_its_map():
    linear, x = nn.Linear(16, 24).eval(), torch.randn(5, 16)
    with torch.no_grad():
        torch.testing.assert_close(packed(linear)(x, gelu=True), F.gelu(linear(x)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "x",
    [*map(torch.randn, [(16,), (0, 16), (2, 3, 4, 16)]), torch.randn(16, 6).T, torch.randn(1, 16).expand(5, 16)],
    ids=["one row", "none", "four axes", "transposed", "repeated"],
)
def test_rows_of_any_shape_and_layout(x):
    linear = nn.Linear(16, 24).eval()
    with torch.no_grad():
        torch.testing.assert_close(packed(linear)(x), linear(x), rtol=1e-5, atol=1e-5)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def patched(linear):
    own = linear.forward
    linear.forward = lambda x: 2 * own(x)


@torch.no_grad()
def pruned(linear):
    prune.l1_unstructured(linear, "weight", 0.5)
    linear(torch.zeros(linear.in_features))


ADDED = {
    "a hook": lambda linear: linear.register_forward_hook(lambda module, given, made: made + 1),
    "a hook before": lambda linear: linear.register_forward_pre_hook(lambda module, given: (given[0] - 1,)),
    "a hook of gradients": lambda linear: linear.register_full_backward_hook(
        lambda module, given, back: (given[0] * 2,)
    ),
    "a hook of saving": lambda linear: linear.register_state_dict_post_hook(lambda *given: given[1].update(more=1)),
    "its own forward": patched,
    "a parameter": lambda linear: linear.register_parameter("low", nn.Parameter(torch.ones(1))),
    "a buffer": lambda linear: linear.register_buffer("mask", torch.ones(1)),
    "a part": lambda linear: linear.add_module("more", nn.Identity()),
    "a tensor": lambda linear: setattr(linear, "scale", torch.ones(1)),
    "pruning": pruned,
    "a norm of its weight": nn.utils.parametrizations.weight_norm,
}


@pytest.mark.parametrize("add", ADDED.values(), ids=ADDED)
@pytest.mark.parametrize("where", ["mlp.fc1", "attn.proj"])
def test_what_has_something_added_stays_as_it_is(add, where):
    model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
    add(model.get_submodule(f"blocks.1.{where}"))
    fast = packed(model)
    with torch.no_grad():
        torch.testing.assert_close(fast(images), model(images), rtol=1e-5, atol=1e-5)
    (one, by_one), (other, by_other) = (with_gradient(own, images) for own in (model, fast))
    assert torch.equal(one, other) and torch.equal(by_one, by_other)
    assert model.state_dict().keys() == fast.state_dict().keys()
    assert not isinstance(fast.get_submodule(f"blocks.1.{where}"), PackedLinear)
    assert isinstance(fast.blocks[1].mlp.fc2, PackedLinear)


def test_an_mlp_with_something_added_and_a_subclass_stay_as_they_are():
    model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
    model.blocks[0].mlp.fc1 = redraw(Doubled(16, 32))
    model.blocks[1].mlp.register_forward_hook(lambda module, given, made: made + 1)
    patched(model.blocks[2].mlp)
    fast = packed(model)
    with torch.no_grad():
        torch.testing.assert_close(fast(images), model(images), rtol=1e-5, atol=1e-5)
    assert type(fast.blocks[0].mlp.fc1) is Doubled
    assert all(type(block.mlp) is MLP for block in fast.blocks)


def test_packing_draws_nothing():
    model = tiny_vit()
    state = torch.get_rng_state()
    packed(model)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_that_was_made_for_inference_only():
    """Its tensors do not count their changes; what is packed from them can still give gradients of an image."""
    with torch.inference_mode():
        model, images = tiny_vit(), torch.randn(2, 3, 8, 18)
        fast, before = packed(model), model(images)
        torch.testing.assert_close(fast(images), before, rtol=1e-5, atol=1e-5)
        redraw(model, 2)
        torch.testing.assert_close(fast(images), before, rtol=1e-5, atol=1e-5)
        assert (model(images) - before).abs().max() > 1e-2
    assert with_gradient(fast, torch.randn(2, 3, 8, 18))[1].any()


def test_a_plain_mark_is_no_reason_to_leave_a_map_as_it_is():
    """transformers puts one on every map that it has filled."""
    linear = nn.Linear(4, 3).eval()
    linear._is_hf_initialized = True
    assert isinstance(packed(nn.Sequential(linear).eval())[0], PackedLinear)
    linear.scale = torch.ones(3)
    with pytest.raises(ConfigError, match="nothing can be packed"):
        packed(nn.Sequential(linear).eval())


def half(model, images):
    """What a model gives under autocast in bfloat16, without gradients."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return model(images)


def cnn():
    return redraw(ResNet(32, depths=(1, 1), embed_dim=8, num_classes=5))


@pytest.mark.parametrize(("make", "size"), [*MODELS.values(), (cnn, (32, 32))], ids=[*MODELS, "CNN"])
@pytest.mark.parametrize("batch", [1, 3])
def test_in_bfloat16_it_answers_what_autocast_does(make, size, batch):
    model, images = make(), torch.randn(batch, 3, *size)
    before = model(images).detach()
    fast = packed(model, torch.bfloat16)
    assert torch.equal(half(fast, images), half(model, images))
    assert not torch.equal(half(fast, images).float(), before)
    assert all(part.weight.dtype is torch.bfloat16 for part in fast.modules() if type(part) in (nn.Linear, nn.Conv2d))
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert torch.equal(model(images), before) and all(p.dtype is torch.float32 for p in model.parameters())


class Tied(nn.Module):
    """One weight in an embedding and a linear layer, and one that is used by hand."""

    def __init__(self):
        super().__init__()
        self.table, self.out, self.own = nn.Embedding(6, 4), nn.Linear(4, 6), Doubled(4, 4)
        self.out.weight = self.table.weight

    def forward(self, indices):
        return self.out(self.own(self.table(indices)))


def test_in_bfloat16_shared_weights_and_subclasses_stay_what_autocast_makes_of_them():
    model, indices = redraw(Tied().eval()), torch.arange(6)
    fast = packed(model, torch.bfloat16)
    assert torch.equal(half(fast, indices), half(model, indices))
    assert fast.table.weight.dtype is fast.own.weight.dtype is torch.float32


def test_what_cannot_be_packed_in_bfloat16_is_refused():
    with pytest.raises(ConfigError, match=r"no plain nn\.Linear or nn\.Conv2d"):
        packed(tiny_vit().double(), torch.bfloat16)
    with pytest.raises(ConfigError, match=r"torch\.float32 or torch\.bfloat16, not torch\.float16"):
        packed(tiny_vit(), torch.float16)
