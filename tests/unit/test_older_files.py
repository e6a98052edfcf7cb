"""Model files from before a config could record arguments: the classes they name are parts with arguments now.

Configs and logits are those that the code at that time wrote, for a model of `tests/tiny.py`'s weights.
"""

import json

import pytest
import torch

from tiny import redraw
from vitral.base.record import ModelRecord, attach_record
from vitral.nn.families import build
from vitral.nn.parts import RENAMED
from vitral.store.model import load_model, save_model

SIZES = dict(in_channels=3, embed_dim=16, depth=2, num_heads=2, img_size=[8, 18], patch_size=[2, 3], num_classes=4)
SIZES |= dict(mlp_ratio=2.0)


def mixing(mixer, *logits):
    return {"mixer": f"nn.family.mixer:{mixer}", "pool": "nn.family.pool:MeanPool"}, {}, list(logits)


FILES = {  # parts, tokens, logits
    "DINOv3's epsilon": (
        {
            "position": "nn.family.position:PatchPosition",
            "norm": "nn.family.block:LayerNorm5",
            "block": "nn.family.block:ScaledBlock",
        },
        {"cls_token": 1, "reg_token": 3},
        [1.33003617706, -0.345606871111, -0.809893358663, 0.114704876507],
    ),
    "Hugging Face's epsilon": (
        {
            "norm": "nn.family.block:LayerNorm12",
            "pool": "nn.family.pool:FirstTwo",
            "head": "nn.family.head:DistilledHead",
        },
        {"cls_token": 1, "dist_token": 1},
        [0.586234308261, -0.132365392391, -0.12524965203, 0.412226210667],
    ),
    "3 x 3 convolutions": mixing("DepthwiseMixing", 0.534332259815, -0.552956088419, 0.279085184256, -0.498310624946),
    "5 x 5 convolutions": mixing("DepthwiseMixing5", -0.156703720134, 0.125026177989, -0.270825590189, -0.517796527903),
    "7 x 7 convolutions": mixing("DepthwiseMixing7", 0.387986910545, 0.831067654011, -0.568062895901, 0.245774603343),
    "circular convolutions": mixing("CircularMixing", 0.469864895214, -0.596470744457, 0.229036144486, -0.477940738327),
    "windows": mixing("WindowMixing", 0.481519263826, 1.45592459356, 0.36032575287, 0.301706653216),
    "rotary": (
        {"position": "nn.family.position:NoPosition", "mixer": "nn.family.normed_rope:QKNormRotary"},
        {"cls_token": 1},
        [1.35338477005, -0.968416013644, -0.595400626698, -0.45292066464],
    ),
    "SigLIP's pool": (
        {
            "position": "nn.family.position:SinCosPosition",
            "mlp": "nn.family.mlp:TanhMLP",
            "pool": "nn.family.pool:TanhAttentionPool",
        },
        {},
        [-0.223687904653, 0.467319364451, 0.62593335728, 0.317186254964],
    ),
    "mean, then norm": (
        {"pool": "nn.family.pool:NormedMeanPool"},
        {"cls_token": 1},
        [0.217755911848, 1.33517249917, 0.0734002977775, -0.956312009765],
    ),
}


def logits(model):
    image = torch.randn(1, 3, 8, 18, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        return model.double()(image)[0]


@pytest.mark.parametrize("name", FILES)
def test_a_config_builds_the_model_that_it_was_written_for(name):
    parts, tokens, expected = FILES[name]
    model = redraw(build(SIZES | dict(parts=parts, tokens=tokens)))
    torch.testing.assert_close(logits(model), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", FILES)
def test_a_saved_model_loads_with_equal_logits(name, tmp_path):
    parts, tokens, expected = FILES[name]
    model = redraw(build(SIZES | dict(parts=parts, tokens=tokens)))
    attach_record(model, ModelRecord(tuple("abcd"), model.preprocessing))
    model.config = SIZES | dict(parts=parts, tokens=tokens)
    save_model(model, tmp_path, {})
    assert json.loads((tmp_path / "model.json").read_text())["architecture"]["vit"]["parts"] == parts
    loaded = load_model(tmp_path)
    torch.testing.assert_close(logits(loaded), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)
    assert not RENAMED.keys() & set(map(str, loaded.config["parts"].values()))


def test_every_renamed_part_stands_in_one_of_them():
    assert RENAMED.keys() == {part for parts, *_ in FILES.values() for part in parts.values() if part in RENAMED}
