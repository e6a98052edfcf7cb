"""What a library can be told to compute, and Vitral has no part for, is refused instead of read as something else."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file
from test_weights_in import CLASSES, HF, agree, hf, hf_answer, hf_model, images_of, timm, timm_vit, transformers
from test_weights_out import REGISTERS, TO_HF, ours

from tiny import redraw
from vitral.base.errors import ConfigError, StoreError
from vitral.nn.family.mlp import SwiGLU
from vitral.nn.family.pool import AttentionPool
from vitral.nn.family.position import PatchPosition
from vitral.nn.head import CLSPool
from vitral.weights.convert import write
from vitral.weights.published import load_published
from vitral.weights.sources.timm import SUPPORTED_NAMES

SWIN = "swin_tiny_patch4_window7_224"
SWIN_SIZES = dict(embed_dim=16, depths=(2, 2), num_heads=(2, 4), num_classes=CLASSES)


def saved(peer, folder, **config):
    save_file({name: tensor.contiguous() for name, tensor in peer.state_dict().items()}, folder / "model.safetensors")
    said = {"architecture": "vit_base_patch16_224", "pretrained_cfg": {"input_size": [3, 32, 32]}} | config
    (folder / "config.json").write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize(
    ("changes", "config", "message"),
    [
        (dict(global_pool="max"), dict(global_pool="max"), "global_pool='max'"),
        (dict(global_pool="avgmax"), dict(global_pool="avgmax"), "global_pool='avgmax'"),
        (dict(fc_norm=True), dict(global_pool="token"), "global_pool='token' and fc_norm"),
        ({}, dict(model_args=dict(act_layer="relu")), "act_layer='relu'"),
        ({}, dict(model_args=dict(norm_layer="rmsnorm")), "norm_layer='rmsnorm'"),
        ({}, dict(model_args=dict(pool_include_prefix=True)), "pool_include_prefix=True"),
        ({}, dict(model_args=dict(global_pool="")), "global_pool=''"),
        ({}, dict(model_args=dict(attn_layer="diff")), "attn_layer='diff'"),
    ],
)
def test_timms_other_settings(changes, config, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load_published(saved(timm_vit((32, 32), **changes), tmp_path, **config), num_heads=4)


# Names of timm's that are read, each of them with its own arguments, and what it looks like that they have in common.
READ = timm.list_models(module="vision_transformer") + timm.list_models(module="deit")
READ = [name for name in READ if SUPPORTED_NAMES.fullmatch(name)]
LITTLE = dict(img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2)


@pytest.mark.parametrize("name", READ)
def test_what_timms_names_say_is_heard(name, tmp_path):
    """As timm's `save_for_hf` writes it: the name, and only the arguments that are not the name's."""
    peer = redraw(timm.create_model(name, **LITTLE))
    timm.models.save_for_hf(peer, tmp_path)
    found = load_published(tmp_path)
    with torch.no_grad():
        expected = peer(images := images_of((32, 32)).float())
        torch.testing.assert_close(found(images), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "name", ["vit_base_patch16_224_in21k", "vit_base_patch8_224_dino", "deit3_base_patch16_224_in21ft1k"]
)
def test_timms_names_before_its_tags(name, tmp_path):
    assert load_published(saved(timm_vit((32, 32)), tmp_path, architecture=name), num_heads=4).config["depth"] == 2


@pytest.mark.parametrize("name", ["vit_base_patch16_rpn_224", "cait_xxs24_224", "vit_base_patch16_clip_224"])
def test_timms_other_architectures(name, tmp_path):
    timm.models.save_for_hf(redraw(timm.create_model(name, **(LITTLE | dict(img_size=32)))), tmp_path)
    with pytest.raises(StoreError, match=f"config.json names the architecture '{name}'"):
        load_published(tmp_path)


def test_timms_swin_that_shifts_whatever_the_map(tmp_path):
    sizes = dict(img_size=32, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 4))
    timm.models.save_for_hf(redraw(timm.create_model(SWIN, **sizes, always_partition=True)), tmp_path)
    with pytest.raises(ConfigError, match="always_partition=True"):
        load_published(tmp_path)


def test_several_class_tokens_without_a_config(tmp_path):
    peer = hf_model("PixioModel", hf("Pixio", image_size=32))
    peer.save_pretrained(tmp_path)
    with pytest.raises(StoreError, match="model_type='pixio'"):
        load_published(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(StoreError, match="8 class tokens, and its tensors do not show which the head reads"):
        load_published(tmp_path, num_heads=4)
    assert load_published(tmp_path, num_heads=4, pool=CLSPool).config["tokens"] == {"cls_token": 8}


def test_timms_rotary_vits_that_are_not_dinov3(tmp_path):
    name = "vit_small_patch16_rope_224"
    peer = redraw(timm.create_model(name, img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4))
    folder = saved(peer, tmp_path, architecture=name)
    for _ in ("with a config", "without"):
        with pytest.raises(StoreError, match="is not in a format that Vitral reads"):
            load_published(folder)
        (folder / "config.json").unlink(missing_ok=True)


@pytest.mark.parametrize("changes", [{}, dict(reg_tokens=3)], ids=["CLS", "registers"])
def test_timms_attention_pool_asks_the_patches_only(changes, tmp_path):
    peer = timm_vit((32, 32), global_pool="map", **changes).double()
    found = load_published(saved(peer, tmp_path, global_pool="map"), num_heads=4)
    agree(peer, found, images_of((32, 32)))


def test_timms_swin_with_other_windows_in_each_stage(tmp_path):
    sizes = dict(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), num_classes=CLASSES)
    build = timm.models.swin_transformer.SwinTransformer
    peer = build(img_size=128, patch_size=4, window_size=(4, 4, 8, 4), **sizes)
    with pytest.raises(StoreError, match="Stage 0 has windows of 4, others of 8"):
        load_published(saved(redraw(peer), tmp_path, architecture=SWIN, pretrained_cfg={"input_size": [3, 128, 128]}))


def test_timms_swin_of_another_pool(tmp_path):
    peer = timm.models.swin_transformer.SwinTransformer(img_size=32, patch_size=4, window_size=4, **SWIN_SIZES)
    with pytest.raises(ConfigError, match="global_pool='max'"):
        load_published(saved(redraw(peer), tmp_path, architecture=SWIN, global_pool="max"))


def test_hugging_faces_dinov3_gated_by_another_function(tmp_path):
    config = hf("DINOv3ViT", image_size=32, num_register_tokens=2, use_gated_mlp=True, hidden_act="gelu")
    hf_model("DINOv3ViTModel", config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="hidden_act='gelu'"):
        load_published(tmp_path)


def test_hugging_faces_swin_of_another_activation(tmp_path):
    config = transformers.SwinConfig(image_size=32, embed_dim=16, depths=[2, 2], num_heads=[2, 4], hidden_act="relu")
    hf_model("SwinModel", config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="hidden_act='relu'"):
        load_published(tmp_path)


@pytest.mark.parametrize("case", ["SigLIP", "DINOv2"])
def test_what_a_lean_config_does_not_say_is_transformers_own_default(case, tmp_path):
    kind, config, changes = HF[case]
    peer = hf_model(kind, hf(config, **changes)).double()
    peer.save_pretrained(tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    lean = {key: value for key, value in said.items() if key not in ("layer_norm_eps", "hidden_act")}
    (tmp_path / "config.json").write_text(json.dumps(lean))
    agree(peer, load_published(tmp_path), images_of((32, 32)), hf_answer)


def test_siglip_with_a_classifier_of_its_mean(tmp_path):
    vision = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, patch_size=8)
    config = transformers.SiglipConfig(vision_config=vision | dict(image_size=32), num_labels=CLASSES)
    hf_model("SiglipForImageClassification", config).save_pretrained(tmp_path)
    with pytest.raises((ConfigError, StoreError)):
        load_published(tmp_path)


OTHERS = {
    "CLIP": ("CLIPModel", "CLIPConfig"),
    "CLIP's image tower": ("CLIPVisionModel", "CLIPVisionConfig"),
    "CLIP's image tower with its projection": ("CLIPVisionModelWithProjection", "CLIPVisionConfig"),
    "SigLIP 2 of any shape": ("Siglip2Model", "Siglip2Config"),
    "SigLIP 2's image tower": ("Siglip2VisionModel", "Siglip2VisionConfig"),
    "AltCLIP": ("AltCLIPVisionModel", "AltCLIPVisionConfig"),
    "MetaCLIP 2": ("MetaClip2VisionModel", "MetaClip2VisionConfig"),
    "BLIP": ("BlipVisionModel", "BlipVisionConfig"),
    "OWL-ViT": ("OwlViTVisionModel", "OwlViTVisionConfig"),
    "BEiT": ("BeitModel", "BeitConfig"),
    "a ViT of films": ("VideoMAEModel", "VideoMAEConfig"),
    "Pixio": ("PixioModel", "PixioConfig"),
    "MSN": ("ViTMSNModel", "ViTMSNConfig"),
    "Swin v2": ("Swinv2Model", "Swinv2Config"),
}


@pytest.mark.parametrize(("name", "config"), OTHERS.values(), ids=OTHERS)
def test_models_with_nearly_the_same_names(name, config, tmp_path):
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    words = dict(vocab_size=40, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    vision = sizes | dict(image_size=32, patch_size=8, num_patches=16)
    whole = dict(text_config=sizes | words, vision_config=vision, projection_dim=16)
    swin = dict(embed_dim=16, depths=[1, 1], num_heads=[1, 2], window_size=2)
    said = whole if name in ("CLIPModel", "Siglip2Model") else swin if "Swin" in name else vision
    getattr(transformers, name)(getattr(transformers, config)(**said)).save_pretrained(tmp_path)
    words = "model_type=|no place in the model|a ViT for images has four axes|is not in a format|which belongs to it"
    with pytest.raises(StoreError, match=words):
        load_published(tmp_path)


def test_half_precision_is_made_whole_before_anything_is_computed(tmp_path):
    """CLS and its position are added, kernels folded, positions resampled: in bfloat16 that would lose digits."""
    config = hf("Dinov2WithRegisters", image_size=32, mlp_ratio=2, num_register_tokens=3)
    peer = hf_model("Dinov2WithRegistersModel", config)
    peer.bfloat16().save_pretrained(tmp_path)
    with torch.no_grad():
        images = images_of((32, 32)).float()
        found, expected = load_published(tmp_path)(images), hf_answer(peer.float()(images))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.int8])
def test_quantised_weights(kind, tmp_path):
    state = {name: tensor.to(kind) for name, tensor in timm_vit((32, 32)).state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(StoreError, match=r"does not read|quantised"):
        load_published(tmp_path / "model.safetensors", source="timm", num_heads=4)


@pytest.mark.parametrize(
    ("parts", "format", "message"),
    [
        (REGISTERS, "hf", "hf cannot hold register tokens without LayerScale"),
        (dict(mlp=SwiGLU), "hf", "hf cannot hold a gated MLP without LayerScale"),
        (dict(position=PatchPosition), "hf", "hf cannot hold 16 positions: for this model.s tokens it has 17"),
        (dict(position=PatchPosition), "torchvision", "a position for its class token"),
        (dict(mlp=SwiGLU), "torchvision", "no gated MLP"),
        (dict(num_classes=0), "torchvision", "always have head.weight"),
        (TO_HF["SigLIP"][0] | dict(num_classes=CLASSES), "hf", "hf cannot hold a SigLIP with a classifier"),
    ],
)
def test_what_is_written_has_a_place_in_their_class(parts, format, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        write(ours(**parts), tmp_path / "out", format)


def test_timm_answers_the_same_for_an_attention_pool_beside_tokens(tmp_path):
    model = ours(**REGISTERS, pool=AttentionPool)
    write(model, tmp_path, "timm")
    agree(timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval().double(), model, images_of((32, 32)))


@pytest.mark.parametrize(
    "config",
    [
        dict(pretrained_cfg=None),
        dict(model_args=None),
        dict(pretrained_cfg={"input_size": 32}),
        dict(pretrained_cfg={"input_size": [3, 32, 32], "mean": None}),
        dict(pretrained_cfg={"input_size": [3, 32, 32], "std": [0, 0, 0]}),
        dict(pretrained_cfg={"input_size": [3, 32, 32], "crop_pct": "0.9"}),
    ],
    ids=str,
)
def test_configs_that_no_library_wrote(config, tmp_path):
    with pytest.raises((StoreError, ConfigError)):
        load_published(saved(timm_vit((32, 32)), tmp_path, **config), num_heads=4)


@pytest.mark.parametrize("size", [-8, 4, 20])
def test_sizes_that_do_not_divide(size, tmp_path):
    folder = saved(timm_vit((32, 32)), tmp_path)
    with pytest.raises(ConfigError, match="cannot be cut into patches of 8 x 8"):
        load_published(folder, num_heads=4, img_size=size)


def test_what_is_taken_for_granted_is_said(tmp_path):
    state = timm_vit((32, 32), embed_dim=192, depth=12, num_heads=3).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    assumed = load_published(tmp_path / "model.safetensors", source="timm").provenance["assumed"]
    for words in ("3 heads", "square grid", "the head reads the class token", "mean 0.5/0.5/0.5, std 0.5/0.5/0.5"):
        assert any(words in line for line in assumed), words


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (dict(image_std=["a", 1, 1]), r"image_std=\['a', 1, 1\]"),
        (dict(image_mean=[0.5, 0.5]), r"image_mean=\[0.5, 0.5\].*1 or 3 numbers"),
        (dict(rescale_factor=0), "rescale_factor=0"),
        (dict(rescale_factor="1/255"), "rescale_factor=1/255"),
    ],
    ids=str,
)
def test_cards_that_no_library_wrote(card, message, tmp_path):
    hf_model("ViTModel", hf("ViT", image_size=32)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(card))
    with pytest.raises(StoreError, match=message):
        load_published(tmp_path)


def of_kind(kind, folder):
    """A ViT or a Swin of Hugging Face's, or a ViT of timm's; and what its config says of sizes."""
    if kind == "timm":
        timm.models.save_for_hf(redraw(timm.create_model("vit_base_patch16_224", **LITTLE)), folder)
        return "model_args"
    sizes = dict(embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, patch_size=4)
    config = transformers.SwinConfig(image_size=32, **sizes) if kind == "Swin" else hf("ViT", image_size=32)
    hf_model(f"{kind}Model", config).save_pretrained(folder)
    return None


def with_config(folder, inside, change):
    config = json.loads((folder / "config.json").read_text())
    (config if inside is None else config[inside]).update(change)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *(("Swin", dict(image_size=size)) for size in ("32", [32], [32, 32, 32], -32, 0, True)),
        ("Swin", dict(depths=2)),
        ("Swin", dict(depths=["2", 2])),
        ("ViT", dict(num_attention_heads="4")),
        ("ViT", dict(num_attention_heads=0)),
        ("ViT", dict(hidden_size="32")),
        ("timm", dict(img_size="32")),
        ("timm", dict(patch_size=[8])),
        ("timm", dict(num_heads="2")),
    ],
    ids=str,
)
def test_sizes_of_another_kind(kind, change, tmp_path):
    with_config(tmp_path, of_kind(kind, tmp_path), change)
    ((word, value),) = change.items()
    with pytest.raises(StoreError, match=re.escape(f"config.json has {word}={value!r}; {word} must be ")):
        load_published(tmp_path)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("Swin", dict(patch_size=2), "patch_size=(2, 2), but the tensors have patch_size=(4, 4)"),
        ("Swin", dict(depths=[2, 4]), "depths=(2, 4), but the tensors have depths=(2, 2)"),
        ("Swin", dict(window_size=7), "window_size=7, but the tensors have window_size=4"),
        ("Swin", dict(num_heads=[4, 8]), "num_heads=(4, 8), but the tensors have num_heads=(2, 4)"),
        ("Swin", dict(embed_dim=24), "embed_dim=24, but the tensors have embed_dim=16"),
        ("ViT", dict(hidden_size=64), "embed_dim=64, but the tensors have embed_dim=32"),
        ("ViT", dict(num_hidden_layers=5), "depth=5, but the tensors have depth=2"),
        ("ViT", dict(num_channels=1), "in_channels=1, but the tensors have in_channels=3"),
        ("ViT", dict(intermediate_size=96), "hidden_dim=96, but the tensors have hidden_dim=64"),
        ("ViT", dict(qkv_bias=False), "qkv_bias=False, but the tensors have qkv_bias=True"),
        ("Swin", dict(mlp_ratio=3.0), "mlp_ratio=3.0, but the tensors have mlp_ratio=4.0"),
        ("timm", dict(mlp_ratio=8), "mlp_ratio=8, but the tensors have mlp_ratio=4.0"),
        ("timm", dict(depth=5), "depth=5, but the tensors have depth=1"),
        ("timm", dict(in_chans=1), "in_channels=1, but the tensors have in_channels=3"),
    ],
)
def test_configs_that_contradict_the_tensors(kind, change, message, tmp_path):
    with_config(tmp_path, of_kind(kind, tmp_path), change)
    with pytest.raises(StoreError, match=re.escape(f"config.json has {message}.")):
        load_published(tmp_path)
