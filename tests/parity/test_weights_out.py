"""What Vitral writes, other libraries load with strict checking, and answer the same; and what they read comes back.

Google's `.npz` has no reader here but timm's, which is independent of ours.
"""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from test_weights_in import CLASSES, agree, hf_answer, images_of

from peers import timm, torchvision, transformers
from tiny import redraw
from vitral.base.errors import ConfigError, StoreError
from vitral.base.record import ModelRecord, attach_record
from vitral.nn.block import LayerNorm
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.head import DistilledHead, WideHead
from vitral.nn.family.mixer import NoMixing, QKNormAttention
from vitral.nn.family.mlp import SwiGLU, TanhMLP
from vitral.nn.family.pool import AttentionPool, CLSAndMeanPool, FirstTwo, MeanPool, NormedMeanPool
from vitral.nn.family.position import NoPosition, PatchPosition, SinCosPosition
from vitral.nn.family.rope import RotaryAttention
from vitral.nn.family.swin import SwinTransformer
from vitral.nn.head import MLPHead
from vitral.nn.vit import VisionTransformer
from vitral.weights.convert import write
from vitral.weights.published import load_published

SIZES = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2.0, num_classes=CLASSES)
NAMES = [f"name {index}" for index in range(CLASSES)]
REGISTERS = dict(tokens={"cls_token": 1, "reg_token": 3})
DISTILLED = dict(tokens={"cls_token": 1, "dist_token": 1}, pool=FirstTwo, head=DistilledHead)
TANH_POOL = partial(AttentionPool, mlp=TanhMLP)


def ours(**parts):
    model = redraw(VisionTransformer(**(SIZES | parts)))
    classes = tuple(NAMES) if model.config["num_classes"] else ()
    return attach_record(model, ModelRecord(classes, model.preprocessing)).double()


def loaded_by_transformers(kind, folder):
    """As transformers loads it, with every tensor but the token that hides patches in pre-training."""
    peer, report = getattr(transformers, kind).from_pretrained(
        folder, output_loading_info=True, dtype=torch.float64, attn_implementation="sdpa"
    )
    lacking = {name for name in report["missing_keys"] if "mask_token" not in name}
    assert not lacking and not report["unexpected_keys"] and not report["mismatched_keys"]
    return peer


TO_TIMM = {
    "plain": ({}, {}),
    "registers": (REGISTERS, dict(reg_tokens=3)),
    "registers without positions": (REGISTERS | dict(position=PatchPosition), dict(reg_tokens=3, no_embed_class=True)),
    "LayerScale": (dict(block=ScaledBlock), dict(init_values=0.1)),
    "query-key norm": (dict(mixer=QKNormAttention), dict(qk_norm=True)),
    "mean pool": (dict(tokens={}, pool=MeanPool), dict(class_token=False, global_pool="avg", fc_norm=False)),
    "mean pool, then norm": (dict(pool=NormedMeanPool), dict(global_pool="avg")),
    "attention pool": (dict(tokens={}, pool=AttentionPool), dict(class_token=False, global_pool="map")),
    "SwiGLU": (dict(mlp=SwiGLU), dict(mlp_layer=timm.layers.SwiGLUPacked, mlp_ratio=4.0, act_layer="silu")),
}


@pytest.mark.parametrize(("parts", "theirs"), TO_TIMM.values(), ids=TO_TIMM)
def test_timm_loads_what_is_written(parts, theirs, tmp_path):
    model = ours(**parts)
    write(model, tmp_path, "timm")
    peer = timm.models.vision_transformer.VisionTransformer(**(SIZES | theirs)).eval().double()
    peer.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    named = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval().double()  # from the config beside it
    assert all(torch.equal(tensor.double(), named.state_dict()[name]) for name, tensor in peer.state_dict().items())
    agree(named, model, images_of((32, 32)))
    back = load_published(tmp_path)
    assert {name: tensor.shape for name, tensor in back.state_dict().items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    assert all(
        torch.equal(tensor, model.state_dict()[name].float()) or torch.equal(tensor, model.state_dict()[name])
        for name, tensor in back.double().state_dict().items()
    )
    assert back.classes == tuple(NAMES)
    agree(peer, model, images_of((32, 32)))


@pytest.mark.parametrize(
    "parts", [DISTILLED, dict(mlp=TanhMLP), dict(position=SinCosPosition, tokens={}, pool=MeanPool)]
)
def test_timm_builds_from_the_config_that_is_written(parts, tmp_path):
    model = ours(**parts)
    write(model, tmp_path, "timm")
    agree(timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval().double(), model, images_of((32, 32)))


ROTARY = REGISTERS | dict(block=ScaledBlock, mixer=RotaryAttention, position=NoPosition, num_classes=0)
ROTARY |= dict(norm=partial(LayerNorm, eps=1e-5))
GATED = dict(mlp=SwiGLU, mlp_ratio=2.5)


def rotary(**parts):
    """Ours, with the bias of keys that DINOv3 has: none."""
    model = ours(**(ROTARY | parts))
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.bias[32:64] = 0
    return model


@pytest.mark.parametrize("parts", [{}, GATED, dict(num_classes=CLASSES)], ids=["plain", "gated", "head"])
def test_timm_loads_the_dinov3_that_is_written(parts, tmp_path):
    model = rotary(**parts)
    write(model, tmp_path, "timm")
    peer = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    peer.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(peer(images_of((32, 32)).float()), model.float()(images_of((32, 32)).float()))


@pytest.mark.parametrize("parts", [{}, GATED], ids=["plain", "gated"])
def test_transformers_loads_the_dinov3_that_is_written(parts, tmp_path):
    model = rotary(**parts)
    write(model, tmp_path, "hf")
    peer = loaded_by_transformers("AutoModel", tmp_path)
    model = model.float()  # where both form the angles in single precision
    with torch.no_grad():
        images = images_of((32, 32)).float()
        torch.testing.assert_close(hf_answer(peer.float().eval()(images)), model(images))


TO_HF = {
    "ViT": (dict(norm=partial(LayerNorm, eps=1e-12)), "AutoModelForImageClassification"),
    "ViT, tanh": (dict(mlp=TanhMLP), "AutoModelForImageClassification"),
    "DeiT distilled": (DISTILLED, "DeiTForImageClassificationWithTeacher"),
    "DINOv2": (dict(block=ScaledBlock, num_classes=0), "AutoModel"),
    "DINOv2 with a head": (
        dict(block=ScaledBlock, pool=CLSAndMeanPool, head=WideHead),
        "AutoModelForImageClassification",
    ),
    "DINOv2, SwiGLU": (dict(block=ScaledBlock, num_classes=0, mlp=SwiGLU, mlp_ratio=1.5), "AutoModel"),
    "DINOv2 with registers": (REGISTERS | dict(block=ScaledBlock, num_classes=0, position=PatchPosition), "AutoModel"),
    "SigLIP": (
        dict(tokens={}, position=PatchPosition, pool=TANH_POOL, mlp=TanhMLP, num_classes=0, mlp_ratio=4.0),
        "SiglipVisionModel",
    ),
}


@pytest.mark.parametrize(("parts", "kind"), TO_HF.values(), ids=TO_HF)
def test_transformers_loads_what_is_written(parts, kind, tmp_path):
    model = ours(**parts)
    write(model, tmp_path, "hf")
    agree(loaded_by_transformers(kind, tmp_path).eval(), model, images_of((32, 32)), hf_answer)


@pytest.mark.parametrize(
    ("parts", "hidden"), [({}, None), (dict(head=MLPHead), 32)], ids=["linear head", "hidden head"]
)
def test_torchvision_loads_what_is_written(parts, hidden, tmp_path):
    model = ours(**parts)
    write(model, tmp_path, "torchvision")
    peer = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=CLASSES, representation_size=hidden)
    peer.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    agree(peer.eval().double(), model, images_of((32, 32)))


@pytest.mark.parametrize("parts", [{}, dict(tokens={}, pool=TANH_POOL, position=PatchPosition)], ids=["CLS", "MAP"])
def test_timm_reads_the_npz_that_is_written(parts, tmp_path):
    model = ours(mlp=TanhMLP, **(parts | dict(mlp_ratio=4.0))).float()
    write(model, tmp_path, "npz")
    theirs = dict(class_token=False, global_pool="map") if parts else {}
    theirs |= dict(act_layer="gelu_tanh", mlp_ratio=4.0)
    peer = timm.models.vision_transformer.VisionTransformer(**(SIZES | theirs)).eval()
    peer.load_pretrained(str(tmp_path / "model.npz"))
    with torch.no_grad():
        torch.testing.assert_close(peer(images_of((32, 32)).float()), model(images_of((32, 32)).float()))
    agree(peer.double(), load_published(tmp_path / "model.npz"), images_of((32, 32)))


SWIN = dict(embed_dim=16, depths=(2, 2), num_heads=(2, 4), num_classes=CLASSES, window_size=4)


@pytest.mark.parametrize("format", ["timm", "hf", "torchvision"])
def test_each_loads_the_swin_that_is_written(format, tmp_path):
    model = redraw(SwinTransformer(img_size=32, **SWIN)).double()
    attach_record(model, ModelRecord(tuple(NAMES), model.preprocessing))
    write(model, tmp_path, format)
    if format == "hf":
        peer = loaded_by_transformers("AutoModelForImageClassification", tmp_path)
        return agree(peer.eval(), model, images_of((32, 32)), hf_answer)
    if format == "timm":
        peer = timm.models.swin_transformer.SwinTransformer(img_size=32, patch_size=4, **SWIN)
    else:
        peer = torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=CLASSES)
    state = load_file(tmp_path / "model.safetensors")
    buffers = {name: tensor for name, tensor in peer.state_dict().items() if name.endswith("relative_position_index")}
    peer.load_state_dict(state | buffers, strict=True)
    return agree(peer.eval().double(), model, images_of((32, 32)))


@pytest.mark.parametrize(
    ("parts", "format", "message"),
    [
        (REGISTERS, "torchvision", "torchvision has no place for reg_token.*Formats that can: timm"),
        (dict(mixer=QKNormAttention), "hf", "hf has no place for blocks.0.attn.q_norm.*Formats that can: timm"),
        (dict(pool=NormedMeanPool), "npz", "npz has no place for pool.norm"),
        (dict(pool=MeanPool), "hf", "hf cannot hold pool=MeanPool: it is read back as CLSPool.*Formats that can: timm"),
        (dict(mixer=NoMixing), "timm", "timm cannot hold this model. .* lacks blocks.0.attn.qkv.weight"),
        (
            dict(position=NoPosition),
            "torchvision",
            "Models in torchvision always have pos_embed.*Formats that can: timm",
        ),
        (
            dict(block=ScaledBlock),
            "hf",
            "hf cannot hold this classifier: its DINOv2 classifies CLS and the mean .*Formats that can: timm",
        ),
        (ROTARY, "torchvision", "torchvision cannot hold a ViT with rotary positions. No other"),
        (ROTARY, "timm", "timm has no key biases .* 2 of this model's are not zero"),
    ],
    ids=str,
)
def test_what_a_format_cannot_hold_is_refused_with_what_can(parts, format, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        write(ours(**parts), tmp_path / "out", format)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_a_model_of_other_channels_is_written_with_its_own_pixels(channels, tmp_path):
    model = ours(in_channels=channels)
    pixels = dict(mean=(0.1, 0.2, 0.3, 0.4)[:channels], std=(0.5, 0.6, 0.7, 0.8)[:channels])
    model.preprocessing = replace(model.preprocessing, **pixels)
    write(model, tmp_path / "out", "hf")
    back = load_published(tmp_path / "out")
    assert back.preprocessing == model.preprocessing and not back.provenance["assumed"][1:]
    card = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    (tmp_path / "out" / "preprocessor_config.json").write_text(json.dumps(card | {"image_std": [0.5] * 5}))
    with pytest.raises(StoreError, match=r"image_std=\[0.5, 0.5, 0.5, 0.5, 0.5\].*Supported: 1 or .*3.* numbers"):
        load_published(tmp_path / "out")
