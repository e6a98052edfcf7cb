"""LoRA: it starts at the trained model, changes only what it should, and is merged into a plain model."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import vitral
from tiny import redraw, tiny_vit
from vitral.base.errors import ConfigError
from vitral.training.adapt import adapt
from vitral.training.lora import LowRankLinear, add_low_rank_updates, merged
from vitral.training.optim import layer_fractions, optimizers
from vitral.training.recipe import Recipe

# Every kind of block with linear layers: attention, windows, convolutions between tokens.
NAMES = (
    "vit_nano_patch8_48",
    "swin_nano_patch2_window6_48",
    "iso_dwconv3_nano_patch8_48",
    "iso_window3_nano_patch8_48",
)
LORA = Recipe(init="run", adapt="lora", lora_rank=3)


def family_member(name):
    """A model of the family on its own images, redrawn so that every parameter matters."""
    model = redraw(vitral.create(name, num_classes=4), deviation=0.1)
    return model, torch.randn(2, 3, *model.preprocessing.size)


def trained(model, images, count=3):
    """The model after some steps of the optimizers of a recipe."""
    updates = optimizers(model, LORA)
    for _ in range(count):
        model(images).square().mean().backward()
        for each in updates:
            each.step()
            each.zero_grad()
    return model


@pytest.mark.parametrize("name", NAMES)
def test_it_starts_at_the_model_and_moves_only_updates_and_head(name):
    model, images = family_member(name)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():  # with gradients, which kernel of attention runs depends on what is frozen
        before = model(images)
        sentence = adapt(model, LORA)
        assert torch.equal(model(images), before)  # B is zero
    layers = [part for part in model.modules() if isinstance(part, LowRankLinear)]
    assert f"rank 3 in {len(layers)} linear layers" in sentence
    model(images).square().mean().backward()
    assert all(part.lora_b.grad.abs().sum() > 0 for part in layers)  # the model calls each of them
    trained(model, images)
    moved = {key for key, value in model.state_dict().items() if key not in start or not torch.equal(value, start[key])}
    updates = {key for key in moved if key.endswith((".lora_a", ".lora_b"))}
    assert len(updates) == 2 * len(layers) and moved - updates == {"head.weight", "head.bias"}
    assert not torch.equal(model(images), before)


@pytest.mark.parametrize("name", NAMES)
def test_merging_gives_a_plain_model_with_the_same_keys_and_outputs(name):
    model, images = family_member(name)
    keys, kinds = list(model.state_dict()), [type(part) for part in model.modules()]
    assert merged(model) is model  # without updates there is nothing to merge
    adapt(model, LORA)
    trained(model, images)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    plain = merged(model)
    assert list(plain.state_dict()) == keys and [type(part) for part in plain.modules()] == kinds
    torch.testing.assert_close(plain(images), model(images), atol=1e-5, rtol=1e-5)
    assert all(parameter.requires_grad for parameter in plain.parameters())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())  # and leaves the other
    assert not {id(p) for p in plain.parameters()} & {id(p) for p in model.parameters()}


def test_the_seed_alone_decides_the_start_and_nothing_else_is_drawn():
    first, second, other = (tiny_vit() for _ in range(3))
    before = torch.get_rng_state()
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        add_low_rank_updates(model, 2, seed)
    assert torch.equal(torch.get_rng_state(), before)
    a, b, c = (dict(model.named_parameters())["blocks.0.attn.qkv.lora_a"] for model in (first, second, other))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_adamw_updates_the_factors_with_ten_times_the_learning_rate_of_their_block():
    model = tiny_vit()
    adapt(model, LORA)
    recipe = Recipe(init="run", adapt="lora", layer_decay=0.5, weight_decay=0.1)
    (adamw,) = optimizers(model, recipe)  # no Muon
    assert isinstance(adamw, torch.optim.AdamW)
    of = {id(parameter): group for group in adamw.param_groups for parameter in group["params"]}
    named = dict(model.named_parameters())
    assert len(of) == 2 * 4 * 3 + 2
    for depth in range(3):
        groups = [of[id(named[f"blocks.{depth}.attn.qkv.lora_{factor}"])] for factor in "ab"]
        assert all(group["lr"] == pytest.approx(10 * recipe.lr * 0.5 ** (3 - depth)) for group in groups)
        assert all(group["weight_decay"] == 0.1 for group in groups)


class Blocks(nn.Module):
    """Any module with a list of blocks."""

    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_a_layer_at_two_places_has_one_update():
    layer = nn.Linear(4, 4, bias=False)
    model, x = Blocks(nn.Sequential(layer), nn.Sequential(nn.Tanh(), layer)), torch.randn(3, 4)
    assert add_low_rank_updates(model, 2, 0) == ["blocks.0.0", "blocks.1.1"]
    assert model.blocks[0][0] is model.blocks[1][1]
    nn.init.normal_(model.blocks[0][0].lora_b)
    plain = merged(model)
    assert plain.blocks[0][0] is plain.blocks[1][1] and type(plain.blocks[0][0]) is nn.Linear
    assert plain.blocks[0][0].bias is None
    torch.testing.assert_close(plain(x), model(x), atol=1e-5, rtol=1e-5)


class InOrder(nn.Module):
    """Blocks in an nn.Sequential, as timm and torchvision have them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 4), nn.GELU())
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)) for _ in range(2)))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.layers(self.stem(x)))


def test_blocks_may_be_in_a_sequential():
    model, x = InOrder(), torch.randn(3, 4)
    fractions = layer_fractions(model, 0.5)
    assert [fractions[f"{name}.weight"] for name in ("stem.0", "layers.0.0", "layers.1.2", "head")] == [
        1 / 8,
        1 / 4,
        1 / 2,
        1,
    ]
    assert add_low_rank_updates(model, 2, 0) == ["layers.0.0", "layers.0.2", "layers.1.0", "layers.1.2"]
    nn.init.normal_(model.layers[1][2].lora_b)
    torch.testing.assert_close(merged(model)(x), model(x), atol=1e-5, rtol=1e-5)


def test_blocks_may_be_linear_layers_themselves():
    model, x = Blocks(nn.Linear(4, 4), nn.Linear(4, 4)), torch.randn(3, 4)
    assert add_low_rank_updates(model, 2, 0) == ["blocks.0", "blocks.1"]
    nn.init.normal_(model.blocks[1].lora_b)
    torch.testing.assert_close(merged(model)(x), model(x), atol=1e-5, rtol=1e-5)


def shared():
    model = Blocks(nn.Linear(4, 4), nn.Linear(4, 4))
    model.blocks[1].weight = model.blocks[0].weight
    return model


REFUSED = {
    "its attention is PyTorch's": (lambda: Blocks(nn.MultiheadAttention(4, 2)), "blocks.0 is a MultiheadAttention"),
    "its linear layer is of another kind": (
        lambda: Blocks(nn.Sequential(nn.modules.linear.NonDynamicallyQuantizableLinear(4, 4))),
        "blocks.0.0 is a NonDynamicallyQuantizableLinear",
    ),
    "two layers share a weight": (shared, "another layer has the same weight"),
    "its blocks are convolutions": (lambda: vitral.create("resnet_nano_48"), "the blocks of this ResNet have none"),
    "it has no blocks": (lambda: nn.Sequential(nn.Linear(4, 4)), "the blocks of this Sequential have none"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_it_cannot_change_is_refused_and_left_as_it_is(why):
    make, words = REFUSED[why]
    model = make()
    before, copy = list(model.modules()), deepcopy(model.state_dict())
    with pytest.raises(ConfigError, match=words):
        add_low_rank_updates(model, 2, 0)
    assert list(model.modules()) == before and model.state_dict().keys() == copy.keys()


def test_a_probe_trains_the_head_alone_and_full_all():
    model = tiny_vit()
    assert adapt(model, Recipe()) == "" and all(p.requires_grad for p in model.parameters())
    assert "the head; 85 parameters" in adapt(model, Recipe(init="run", adapt="probe"))
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
