"""A config from a file builds Vitral's own parts and nothing else: no name in it is imported from elsewhere."""

import json
import sys
from functools import partial

import pytest
import torch

from tiny import tiny_vit, with_record
from vitral.base.errors import StoreError, UnknownName
from vitral.base.lookup import import_object, object_path
from vitral.nn.block import LayerNorm
from vitral.nn.families import build
from vitral.nn.family.pool import MeanPool
from vitral.nn.mlp import MLP
from vitral.nn.parts import find_part
from vitral.store.model import load_model, save_model

FOREIGN = [
    "os:system",
    "subprocess:Popen",
    "builtins:eval",
    "torch.nn:Linear",
    "antigravity:fly",
    "nn.family.pool:rearrange",
    "nn.family.pool:nn",
    "nn.family.pool:Missing",
    "nn.family.pool:__builtins__",
    "nn.family.pool",
    "nn.family.missing:MeanPool",
    "..os:system",
    "base.files:write_file",
    "store.model:load",
    "cli.train:run",
    "vitral.nn.family.pool:MeanPool",
    ":",
    "",
]


@pytest.mark.parametrize("path", FOREIGN)
def test_a_name_that_is_no_part_of_the_models_is_refused(vit, path):
    before = set(sys.modules)
    with pytest.raises(UnknownName, match="is not a part of Vitral"):
        build(vit.config | {"parts": {"pool": path}})
    assert "antigravity" not in sys.modules
    assert {name for name in set(sys.modules) - before if not name.startswith("vitral")} == set()


@pytest.mark.parametrize("path", ["os:system", "antigravity:fly"])
def test_a_model_file_that_names_another_library_is_refused(labelled, tmp_path, path):
    labelled.config = labelled.config | {"parts": {"pool": path}}
    save_model(labelled, tmp_path, {})
    with pytest.raises(StoreError, match="is not a part of Vitral"):
        load_model(tmp_path)
    assert "antigravity" not in sys.modules


def test_a_parts_path_leads_back_to_it():
    assert object_path(MeanPool) == "nn.family.pool:MeanPool"
    assert object_path(MLP) == "nn.mlp:MLP"
    for part in (MeanPool, MLP):
        assert import_object(object_path(part), within="nn") is part


NORM = "nn.block:LayerNorm"
MALFORMED = [
    (
        {"norm": {"name": NORM, "arguments": {"eps": "x"}}},
        "nn.block:LayerNorm takes a value of type float as eps, not 'x'",
    ),
    ({"norm": {"name": NORM, "arguments": {"eps": None}}}, "takes a value of type float as eps, not None"),
    ({"norm": {"name": NORM, "arguments": {"eps": [1e-6]}}}, "takes a value of type float as eps, not"),
    ({"norm": {"name": NORM, "arguments": {"eps": True}}}, "takes a value of type float as eps, not True"),
    ({"norm": {"name": NORM, "arguments": {"eps": {"name": NORM}}}}, "takes a value of type float as eps, not <class"),
    ({"norm": {"name": "torch:LayerNorm", "arguments": {"eps": "x"}}}, "torch:LayerNorm takes a value of type float"),
    ({"norm": {"name": NORM, "arguments": {"epsilon": 1e-6}}}, "has no argument 'epsilon'; it has: embed_dim, eps"),
    ({"norm": {"name": NORM, "arguments": [1e-6]}}, "does not describe a part of a model"),
    ({"norm": {"name": NORM, "arguments": None}}, "does not describe a part of a model"),
    ({"norm": {"name": 3}}, "does not describe a part of a model"),
    ({"norm": {"name": None, "arguments": {}}}, "does not describe a part of a model"),
    ({"norm": None}, "does not describe a part of a model"),
    ({"norm": [NORM]}, "does not describe a part of a model"),
    ({"norm": {}}, "does not describe a part of a model"),
    ({"pool": "torch:Identity"}, "its parts do not fit together"),
    ({"head": "nn.head:Nothing"}, "is not a part of Vitral"),
    ([NORM], "This is not the config of a VisionTransformer"),
]


@pytest.mark.parametrize(("parts", "words"), MALFORMED, ids=str)
def test_parts_that_are_malformed_or_do_not_fit_are_refused_when_the_model_is_loaded(labelled, tmp_path, parts, words):
    save_model(labelled, tmp_path, {})
    file = tmp_path / "model.json"
    card = json.loads(file.read_text())
    card["architecture"]["vit"]["parts"] = parts
    file.write_text(json.dumps(card))
    with pytest.raises(StoreError, match=rf"model\.json cannot be built: .*{words}"):
        load_model(tmp_path)


def test_arguments_of_the_right_types_are_taken(labelled, tmp_path, images):
    model = with_record(tiny_vit(norm=partial(LayerNorm, eps=1e-3)))
    save_model(model, tmp_path, {})
    assert torch.equal(load_model(tmp_path)(images), model(images))
    assert find_part({"name": NORM, "arguments": {"eps": 1}}).keywords == {"eps": 1}  # a whole number is a number
