"""How a config records a part with arguments, and what a part may declare."""

import json
from functools import partial

import pytest
import torch
from torch import nn

from tiny import tiny_vit
from vitral.base.errors import ConfigError, UnknownName
from vitral.nn.block import LayerNorm
from vitral.nn.families import build
from vitral.nn.family.mixer import DepthwiseMixing, NoMixing
from vitral.nn.family.mlp import TanhMLP
from vitral.nn.family.pool import AttentionPool, MeanPool, NormedMeanPool
from vitral.nn.family.position import SinCosPosition
from vitral.nn.family.rope import RotaryAttention
from vitral.nn.parts import InitializesWeights, KnowsGrid, NormalizesItself, describe_part, find_part, record_part

PARTS = {
    "MeanPool": MeanPool,
    "LayerNorm(eps=1e-12)": partial(LayerNorm, eps=1e-12),
    "LayerNorm": nn.LayerNorm,
    "LayerNorm(eps=1e-05, bias=False)": partial(nn.LayerNorm, eps=1e-5, bias=False),
    "RMSNorm": nn.RMSNorm,
    "AttentionPool(mlp=TanhMLP)": partial(AttentionPool, mlp=TanhMLP),
    "DepthwiseMixing(kernel_size=5, padding_mode=circular)": partial(
        DepthwiseMixing, kernel_size=5, padding_mode="circular"
    ),
    "LayerNorm(normalized_shape=(3, 5))": partial(nn.LayerNorm, normalized_shape=(3, 5)),
}


def unwrapped(part):
    return (part.func, part.keywords) if isinstance(part, partial) else (part, {})


@pytest.mark.parametrize("words", PARTS)
def test_a_part_comes_back_from_json(words):
    part = PARTS[words]
    found = find_part(json.loads(json.dumps(record_part(part))))
    assert unwrapped(found) == unwrapped(part)
    assert describe_part(found) == words


@pytest.mark.parametrize("norm", [partial(nn.LayerNorm, eps=1e-3), partial(LayerNorm, eps=1e-3), nn.RMSNorm])
def test_a_model_is_built_again_with_the_arguments_of_its_parts(norm, images):
    model = tiny_vit(norm=norm)
    again = build(json.loads(json.dumps(model.config))).eval()
    again.load_state_dict(model.state_dict())
    assert type(again.norm) is type(model.norm) and again.norm.eps == model.norm.eps
    assert torch.equal(again(images), model(images))


@pytest.mark.parametrize(
    "part",
    [
        partial(NoMixing, 16),
        partial(LayerNorm, eps=torch.tensor(1e-6)),
        partial(AttentionPool, mlp=lambda embed_dim, hidden_dim: nn.Identity()),
        partial(torch.optim.SGD, lr=1.0),
        lambda embed_dim: nn.Identity(),
    ],
    ids=["positional", "tensor", "lambda in an argument", "from elsewhere", "lambda"],
)
def test_what_a_file_cannot_hold_is_recorded_as_text_that_builds_nothing(part):
    recorded = json.loads(json.dumps(record_part(part)))
    with pytest.raises(UnknownName, match="is not a part of Vitral"):
        find_part(recorded)


@pytest.mark.parametrize(
    "recorded",
    [
        {},
        3,
        None,
        [],
        {"arguments": {}},
        {"name": "nn.mlp:MLP", "more": 1},
        {"name": "nn.mlp:MLP", "arguments": 3},
        {"name": ["nn.mlp:MLP"]},
        {"name": None},
        {"name": "nn.block:LayerNorm", "arguments": {"epsilon": 1.0}},
        {"name": "nn.block:LayerNorm", "arguments": {"eps": {"value": 1.0}}},
    ],
    ids=str,
)
def test_what_is_no_record_of_a_part_is_refused(vit, recorded):
    with pytest.raises(ConfigError):
        build(vit.config | {"parts": {"norm": recorded}})


@pytest.mark.parametrize("name", ["torch:manual_seed", "torch.nn:Linear", "torch:Conv2d", "os:system"])
def test_of_other_libraries_only_the_listed_layers_are_found(vit, name):
    for recorded in (name, {"name": name, "arguments": {"seed": 0}}):
        inside = {"name": "nn.block:LayerNorm", "arguments": {"eps": {"name": name}}}
        for norm in (recorded, inside):
            with pytest.raises(UnknownName, match=f"{name} is not a part"):
                build(vit.config | {"parts": {"norm": norm}})


def test_parts_declare_what_they_depend_on():
    assert isinstance(RotaryAttention(16, 2), KnowsGrid) and not isinstance(MeanPool(), KnowsGrid)
    assert isinstance(AttentionPool(16, 2, 32), InitializesWeights) and not isinstance(MeanPool(), InitializesWeights)
    assert isinstance(NormedMeanPool(16), NormalizesItself) and not isinstance(MeanPool(), NormalizesItself)


class SomeNorm(MeanPool):
    replaces_final_norm = False


@pytest.mark.parametrize(
    ("pool", "norm"), [(MeanPool, LayerNorm), (NormedMeanPool, nn.Identity), (SomeNorm, LayerNorm)]
)
def test_a_pool_with_a_norm_of_its_own_replaces_the_final_norm(pool, norm):
    assert type(tiny_vit(pool=pool).norm) is norm


class Recorder(nn.Module):
    """A pool that keeps what it was given."""

    def __init__(self, hidden_dim, *, num_heads=None, other="default"):
        super().__init__()
        self.given = (hidden_dim, num_heads, other)

    def forward(self, x, num_prefix_tokens):
        return x[:, 0]


def test_a_pool_is_given_the_sizes_that_it_names():
    assert tiny_vit(pool=Recorder).pool.given == (32, 4, "default")
    assert tiny_vit(pool=partial(Recorder, other=1)).pool.given == (32, 4, 1)


def test_fixed_positions_follow_the_model_to_a_dtype_and_device(images):
    """They were a plain attribute, which stayed in single precision on the device it was made on."""
    model = tiny_vit(position=SinCosPosition)
    before = model(images)
    assert "position.fixed" not in model.state_dict()
    assert model.double().position.fixed.dtype is torch.float64
    torch.testing.assert_close(model(images.double()).float(), before, rtol=1e-4, atol=1e-5)
    assert model.to("meta").position.fixed.device.type == "meta"
