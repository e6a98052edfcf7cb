"""A config from a file builds Vitral's own parts and nothing else: no name in it is imported from elsewhere."""

import sys

import pytest

from vitral.base.errors import StoreError, UnknownName
from vitral.base.lookup import import_object, object_path
from vitral.nn.families import build
from vitral.nn.family.pool import MeanPool
from vitral.nn.mlp import MLP
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
