"""Google's `.npz` in each of its ages, as timm's own loader, which is independent of ours, reads them."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from test_weights_in import CLASSES, SIZES, agree, images_of

from peers import timm
from tiny import redraw
from vitral.base.errors import StoreError
from vitral.base.record import ModelRecord, attach_record
from vitral.nn.family.mlp import TanhMLP
from vitral.nn.family.pool import AttentionPool, MeanPool
from vitral.nn.family.position import PatchPosition
from vitral.nn.vit import VisionTransformer
from vitral.weights.convert import write
from vitral.weights.published import load_published

SETTINGS = dict(patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=CLASSES)
MEAN = dict(tokens={}, pool=MeanPool), dict(class_token=False, global_pool="avg", fc_norm=False)
LATER = {"MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0", "MlpBlock_3": "MlpBlock_0"}
MADE = {  # parts of ours; timm's; how the oldest age's arrays become this one's
    "before linen": ({}, {}, lambda arrays: arrays),
    "before linen, as an optimiser's target": ({}, {}, lambda arrays: prefixed(arrays, "opt/target/")),
    "big_vision, mean of patches": (*MEAN, lambda arrays: big_vision(arrays)),
    "big_vision, CLS without a position": (
        dict(position=PatchPosition),
        dict(no_embed_class=True),
        lambda arrays: big_vision(arrays),
    ),
    "big_vision, attention pool, image tower": (
        dict(tokens={}, pool=partial(AttentionPool, mlp=TanhMLP), mlp_ratio=4.0),
        dict(class_token=False, global_pool="map"),
        lambda arrays: big_vision(arrays, "params/img/"),
    ),
    "big_vision, scanned": (*MEAN, lambda arrays: scanned(big_vision(arrays))),
}


def prefixed(arrays, root):
    return {root + name: array for name, array in arrays.items()}


def linen(arrays):
    """Later names; the second norm is counted without the attention and the MLP."""
    found = {}
    for name, array in arrays.items():
        for old, new in LATER.items():
            name = name.replace(old, new) if "encoderblock" in name else name
        found[name.replace("LayerNorm_2", "LayerNorm_1") if "encoderblock" in name else name] = array
    return found


def big_vision(arrays, root="params/"):
    """Later names, and positions of the patches alone, beside the encoder instead of in it."""
    positions = "posembed_input/pos_embedding"
    arrays = {"pos_embedding" if name.endswith(positions) else name: array for name, array in linen(arrays).items()}
    return prefixed(arrays, root)


def scanned(arrays):
    """All blocks' arrays in one."""
    found, stacked = {}, {}
    for name, array in sorted(arrays.items()):  # by the block's number, of which there are two
        if block := re.fullmatch(r"(.*/encoderblock)_\d+(/.*)", name):
            stacked.setdefault(block[1] + block[2], []).append(array)
        else:
            found[name] = array
    return found | {name: np.stack(blocks) for name, blocks in stacked.items()}


@pytest.fixture(params=SIZES.values(), ids=SIZES)
def size(request):
    return request.param


@pytest.fixture(params=MADE, ids=MADE)
def aged(request, size, tmp_path):
    """A file of this age, and timm's model of it."""
    parts, theirs, changed = MADE[request.param]
    sizes = SETTINGS | dict(img_size=size)
    model = redraw(VisionTransformer(**(sizes | dict(mlp=TanhMLP) | parts)))
    names = tuple(f"name {k}" for k in range(CLASSES))
    write(attach_record(model, ModelRecord(names, model.preprocessing)), tmp_path / "old", "npz")
    with np.load(tmp_path / "old" / "model.npz") as old:
        arrays = changed(dict(old))
    np.savez(tmp_path / "model.npz", **arrays)
    peer = timm.models.vision_transformer.VisionTransformer(**sizes, **theirs, act_layer="gelu_tanh").eval()
    peer.load_pretrained(str(tmp_path / "model.npz"))
    return request.param, tmp_path / "model.npz", peer


def test_each_age_is_read_as_timm_reads_it(aged, size):
    name, path, peer = aged
    parts = dict(pool=MeanPool) if "mean of patches" in name else {}
    ours = load_published(path, trained_at=size, **parts)
    assert ours.provenance["source"] == "google" and ours.config["num_heads"] == 4
    agree(peer.double(), ours.double(), images_of(size), row=("Google npz", name))


def test_bfloat16_which_numpy_does_not_know_is_read(aged, size, tmp_path):
    """It is saved as two bytes of nothing: the upper half of a float32."""
    _, path, _ = aged
    with np.load(path) as found:
        whole = dict(found)
    halves = {name: np.ascontiguousarray(array.view(np.uint16)[..., 1::2]).view("V2") for name, array in whole.items()}
    np.savez(tmp_path / "half.npz", **halves)
    cut = {name: (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32) for name, array in whole.items()}
    np.savez(tmp_path / "cut.npz", **cut)
    ours, expected = (load_published(tmp_path / name, trained_at=size) for name in ("half.npz", "cut.npz"))
    for name, tensor in expected.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor)


def test_other_bytes_of_nothing_are_refused(tmp_path):
    np.savez(tmp_path / "model.npz", kernel=np.zeros(4, "V3"))
    with pytest.raises(StoreError, match="holds kernel, which is not an array of numbers"):
        load_published(tmp_path / "model.npz")
