"""Files and runs that older versions wrote load today, and give the logits that they gave then."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vitral

FILES = Path(__file__).parents[1] / "old_files"
EXPECTED = load_file(FILES / "expected.safetensors")
NAMES = sorted(folder.name for folder in FILES.iterdir() if (folder / "model.json").is_file())


def test_there_are_expected_logits_for_each_folder():
    assert sorted(EXPECTED) == sorted([*NAMES, "images", "checkpoint"])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_an_old_file_gives_the_logits_it_gave(name):
    model = vitral.load(FILES / name, code=f"{FILES}/own/net.py:Net" if name == "own" else None)
    assert (model(EXPECTED["images"]) - EXPECTED[name]).abs().max() < 1e-6
    assert model.classes == ("circle", "square", "star")
    assert model.preprocessing.size == (16, 16)
    assert model.preprocessing.mean == (0.5, 0.4, 0.3)
    assert model.provenance == {"data": "shapes:size=16", "seed": 3}


@torch.no_grad()
def test_an_old_file_is_loaded_by_the_path_of_its_weights_too():
    model = vitral.load(FILES / "swin" / "model.safetensors")
    assert (model(EXPECTED["images"]) - EXPECTED["swin"]).abs().max() < 1e-6
