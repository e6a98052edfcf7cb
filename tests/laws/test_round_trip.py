"""`model.config` is enough to build a model again, after a trip through JSON."""

import json
import re

import pytest
import torch

from tiny import TINY, redraw, tiny_vit
from vitral import MLP, create, list_models
from vitral.nn.families import build
from vitral.nn.family.mixer import NoMixing, QKNormAttention
from vitral.nn.family.pool import MeanPool
from vitral.nn.family.position import SinCosStart
from vitral.nn.head import MLPHead

VARIANTS = {
    "lecture": {},
    "one number for a size": dict(img_size=12, patch_size=4),
    "grey images": dict(in_channels=1),
    "no head": dict(num_classes=0),
    "no blocks but one": dict(depth=1, mlp_ratio=1.5),
    "registers": dict(tokens={"cls_token": 1, "reg_token": 3}),
    "no tokens": dict(tokens={}, pool=MeanPool),
    "every other part": dict(mixer=QKNormAttention, position=SinCosStart, pool=MeanPool, head=MLPHead),
    "parts that are the default": dict(mlp=MLP),
    "nothing mixes": dict(mixer=NoMixing, pool=MeanPool),
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_model_built_from_its_config_is_the_same_model(changes):
    model = tiny_vit(**changes)
    again = build(json.loads(json.dumps(model.config)))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    redraw(again, seed=1)
    again.load_state_dict(model.state_dict(), strict=True)
    images = torch.randn(2, TINY.get("in_channels", changes.get("in_channels", 3)), *model.patch_embed.img_size)
    assert torch.equal(again(images), model(images))
    assert (again.grid, again.num_prefix_tokens) == (model.grid, model.num_prefix_tokens)
    assert again.preprocessing == model.preprocessing
    assert json.loads(json.dumps(again.config)) == json.loads(json.dumps(model.config))
    assert [type(part) for part in again.modules()] == [type(part) for part in model.modules()]


@pytest.mark.parametrize("name", list_models())
def test_every_name_builds_and_builds_again(name):
    with torch.device("meta"):
        model = create(name)
        again = build(json.loads(json.dumps(model.config)))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert model.config["num_classes"] == 1000
    if patch := re.search(r"patch(\d+)", name):
        assert model.config["patch_size"] in ((int(patch[1]),) * 2, int(patch[1]))
    if side := re.search(r"_(\d+)$", name):
        assert model.config["img_size"] == (int(side[1]),) * 2 == model.preprocessing.size


def test_overrides_come_before_the_names_own_sizes():
    model = create("vit_nano_patch8_48", num_classes=3, img_size=(16, 24), in_channels=1, depth=2, pool=MeanPool)
    assert model.grid == (2, 3)
    assert model(torch.randn(2, 1, 16, 24)).shape == (2, 3)
    assert len(model.blocks) == 2
    assert isinstance(model.pool, MeanPool)
    assert isinstance(model.blocks[0].attn, QKNormAttention)
