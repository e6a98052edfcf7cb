"""Tiny random models of other libraries, saved as those save them, give the same answers when Vitral reads them."""

import pytest
import torch
from safetensors.torch import save_file

from tiny import redraw
from vitral.weights.load import published

timm = pytest.importorskip("benchmarks.peers").timm
torchvision = pytest.importorskip("benchmarks.peers").torchvision
transformers = pytest.importorskip("transformers")

CLASSES = 5
SMALL = dict(embed_dim=32, depth=2, num_heads=4, num_classes=CLASSES)


def images_of(size, channels=3):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def timm_vit(size, **changes):
    built = timm.models.vision_transformer.VisionTransformer(img_size=size, patch_size=8, **(SMALL | changes))
    return redraw(built)


TIMM = {
    "plain": {},
    "registers": dict(reg_tokens=3),
    "registers without positions": dict(reg_tokens=3, no_embed_class=True),
    "LayerScale": dict(init_values=0.1),
    "query-key norm": dict(qk_norm=True),
    "no query-key-value bias": dict(qkv_bias=False),
    "mean pool": dict(class_token=False, global_pool="avg", fc_norm=False),
    "mean pool, then norm": dict(global_pool="avg"),
    "attention pool": dict(class_token=False, global_pool="map"),
    "SwiGLU": dict(mlp_layer=timm.layers.SwiGLUPacked, mlp_ratio=2.5, act_layer="silu"),
    "no head": dict(num_classes=0),
}


@pytest.mark.parametrize("size", [(32, 32), (16, 40)], ids=["square", "not square"])
@pytest.mark.parametrize("changes", TIMM.values(), ids=TIMM)
def test_timms_vit(changes, size, tmp_path):
    peer = timm_vit(size, **changes).double()
    save_file(peer.state_dict(), tmp_path / "model.safetensors")
    ours = published(tmp_path / "model.safetensors", source="timm", num_heads=4, trained_at=size)
    agree(peer, ours, images_of(size))


def agree(peer, ours, images, answer=lambda out: getattr(out, "logits", out)):
    """The same in double precision to 1e-9, in single to 1e-5."""
    with torch.no_grad():
        expected, found = answer(peer(images)), ours.double()(images)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
        single = answer(peer.float()(images.float()))
        torch.testing.assert_close(
            ours.float()(images.float()), single, rtol=1e-5, atol=1e-5 * float(single.abs().max())
        )


def hf(kind, **changes):
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, patch_size=8)
    return getattr(transformers, f"{kind}Config")(**(sizes | changes), attn_implementation="sdpa")


def hf_model(name, config):
    model = getattr(transformers, name)._from_config(config, attn_implementation="sdpa")
    return redraw(model)


HF = {
    "ViT": ("ViTForImageClassification", "ViT", dict(image_size=32, num_labels=CLASSES)),
    "ViT, tanh, eps 1e-6": (
        "ViTForImageClassification",
        "ViT",
        dict(image_size=32, num_labels=CLASSES, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6),
    ),
    "ViT without a head": ("ViTModel", "ViT", dict(image_size=32)),
    "DeiT": ("DeiTForImageClassification", "DeiT", dict(image_size=32, num_labels=CLASSES)),
    "DeiT distilled": ("DeiTForImageClassificationWithTeacher", "DeiT", dict(image_size=32, num_labels=CLASSES)),
    "DINOv2": ("Dinov2Model", "Dinov2", dict(image_size=32, mlp_ratio=2)),
    "DINOv2, SwiGLU": ("Dinov2Model", "Dinov2", dict(image_size=32, mlp_ratio=2, use_swiglu_ffn=True)),
    "DINOv2 with registers": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegisters",
        dict(image_size=32, mlp_ratio=2, num_register_tokens=3),
    ),
    "SigLIP": ("SiglipVisionModel", "SiglipVision", dict(image_size=32)),
}


def hf_answer(out):
    if getattr(out, "logits", None) is not None:
        return out.logits
    pooled = getattr(out, "pooler_output", None)
    return pooled if pooled is not None else out


@pytest.mark.parametrize("spelling", ["on disk", "in memory"])
@pytest.mark.parametrize(("name", "kind", "changes"), HF.values(), ids=HF)
def test_hugging_faces(name, kind, changes, spelling, tmp_path):
    config = hf(kind, **changes)
    peer = hf_model(name, config).double()
    peer.save_pretrained(tmp_path)
    if spelling == "in memory":
        save_file(peer.state_dict(), tmp_path / "model.safetensors")
    ours = published(tmp_path)
    agree(peer, ours, images_of((32, 32)), hf_cls if name == "ViTModel" else hf_answer)


def hf_cls(out):
    """What is read of a model whose pooler was a part of pre-training only."""
    return out.last_hidden_state[:, 0]


@pytest.mark.parametrize("hidden", [None, 32], ids=["linear head", "hidden head"])
def test_torchvisions_vit(hidden, tmp_path):
    peer = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=CLASSES, representation_size=hidden)
    peer = redraw(peer).double()
    torch.save(peer.state_dict(), tmp_path / "vit.pth")
    agree(peer, published(tmp_path / "vit.pth", num_heads=4), images_of((32, 32)))


SWIN = dict(embed_dim=16, depths=(2, 2), num_heads=(2, 4), num_classes=CLASSES)


@pytest.mark.parametrize("size", [(32, 32), (64, 32)], ids=["square", "not square"])
def test_timms_swin(size, tmp_path):
    peer = timm.models.swin_transformer.SwinTransformer(img_size=size, patch_size=4, window_size=4, **SWIN)
    peer = redraw(peer).double()
    save_file(peer.state_dict(), tmp_path / "model.safetensors")
    agree(peer, published(tmp_path / "model.safetensors", trained_at=size), images_of(size))


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (44, 52)], ids=["square", "not square", "windows do not divide"])
def test_torchvisions_swin(size, tmp_path):
    peer = torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=CLASSES)
    peer = redraw(peer).double()
    torch.save(peer.state_dict(), tmp_path / "swin.pth")
    agree(peer, published(tmp_path / "swin.pth", trained_at=size), images_of(size))


@pytest.mark.parametrize("spelling", ["on disk", "in memory"])
def test_hugging_faces_swin(spelling, tmp_path):
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=CLASSES
    )
    peer = hf_model("SwinForImageClassification", config).double()
    peer.save_pretrained(tmp_path)
    if spelling == "in memory":
        save_file(peer.state_dict(), tmp_path / "model.safetensors")
    agree(peer, published(tmp_path), images_of((32, 32)), hf_answer)
