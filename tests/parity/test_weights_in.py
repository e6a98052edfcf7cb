"""Tiny random models of other libraries, saved as those save them, give the same answers when Vitral reads them."""

import argparse
import contextlib

import pytest
import torch
from safetensors.torch import save_file

from peers import timm, torchvision, transformers
from tiny import redraw
from vitral.base.errors import StoreError
from vitral.nn.family.pool import MeanPool
from vitral.weights.published import load_published

CLASSES = 5
SIZES = {"square": (32, 32), "not square": (16, 40)}
SMALL = dict(embed_dim=32, depth=2, num_heads=4, num_classes=CLASSES)


def images_of(size, channels=3):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def reread(peer, path, **options):
    """What Vitral reads of a peer's tensors, from a file of the kind that the path's suffix names."""
    (torch.save if path.suffix == ".pth" else save_file)(peer.state_dict(), path)
    return load_published(path, **options)


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


def named(cases, case):
    """What a case is called."""
    return next(name for name, own in cases.items() if own is case or own == case)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("changes", TIMM.values(), ids=TIMM)
def test_timms_vit(changes, size, tmp_path):
    peer = timm_vit(size, **changes).double()
    ours = reread(peer, tmp_path / "model.safetensors", source="timm", num_heads=4, trained_at=size)
    agree(peer, ours, images_of(size), row=("timm ViT", named(TIMM, changes)))


ROWS: dict[tuple[str, str, str], tuple[float, float]] = {}


def agree(peer, ours, images, answer=lambda out: getattr(out, "logits", out), row=None, within=1e-9, **asked):
    """The same in double precision to 1e-9, in single to 1e-5, of the largest answer; the peer is asked so."""
    with torch.no_grad():
        apart = []
        for precision in (torch.float64, torch.float32):
            expected = answer(peer.to(precision)(images.to(precision), **asked))
            found = ours.to(precision)(images.to(precision))
            apart.append(float((found - expected).abs().max() / expected.abs().max()))
    assert apart[0] <= within and apart[1] <= 1e-5
    if row is not None:
        ROWS[*row, " x ".join(map(str, images.shape[2:]))] = (apart[0], apart[1])


def hf(kind, **changes):
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, patch_size=8)
    return getattr(transformers, f"{kind}Config")(**(sizes | changes), attn_implementation="sdpa")


def hf_model(name, config):
    model = getattr(transformers, name)._from_config(config, attn_implementation="sdpa")
    return redraw(model)


def save_as(spelling, peer, folder):
    """Save with the names that transformers writes to disk, or with those that the model has in memory."""
    peer.save_pretrained(folder)
    if spelling == "in memory":
        save_file(peer.state_dict(), folder / "model.safetensors")


LABELLED = dict(image_size=32, num_labels=CLASSES)
TANH = dict(hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)
HF = {
    "ViT": ("ViTForImageClassification", "ViT", LABELLED),
    "ViT, tanh, eps 1e-6": ("ViTForImageClassification", "ViT", LABELLED | TANH),
    "ViT without a head": ("ViTModel", "ViT", dict(image_size=32)),
    "DeiT": ("DeiTForImageClassification", "DeiT", LABELLED),
    "DeiT distilled": ("DeiTForImageClassificationWithTeacher", "DeiT", LABELLED),
    "DINOv2": ("Dinov2Model", "Dinov2", dict(image_size=32, mlp_ratio=2)),
    "DINOv2 with a head": ("Dinov2ForImageClassification", "Dinov2", LABELLED | dict(mlp_ratio=2)),
    "DINOv2 with registers and a head": (
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegisters",
        LABELLED | dict(mlp_ratio=2, num_register_tokens=3),
    ),
    "DINOv2, SwiGLU": ("Dinov2Model", "Dinov2", dict(image_size=32, mlp_ratio=2, use_swiglu_ffn=True)),
    "DINOv2 with registers": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegisters",
        dict(image_size=32, mlp_ratio=2, num_register_tokens=3),
    ),
    "SigLIP": ("SiglipVisionModel", "SiglipVision", dict(image_size=32)),
    "I-JEPA": ("IJepaModel", "IJepa", dict(image_size=32)),
    "I-JEPA with a head": ("IJepaForImageClassification", "IJepa", LABELLED),
}


def hf_answer(out):
    if getattr(out, "logits", None) is not None:
        return out.logits
    pooled = getattr(out, "pooler_output", None)
    return pooled if pooled is not None else out


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("spelling", ["on disk", "in memory"])
@pytest.mark.parametrize(("name", "kind", "changes"), HF.values(), ids=HF)
def test_hugging_faces(name, kind, changes, spelling, size, tmp_path):
    peer = hf_model(name, hf(kind, **changes)).double()
    save_as(spelling, peer, tmp_path)
    row = (f"Hugging Face, {spelling}", named(HF, (name, kind, changes)))
    ours, answer = load_published(tmp_path, img_size=size), READ.get(name, hf_answer)
    if "Dinov2" in kind:  # in double precision too these resample in single
        agree(peer, ours, images_of(size), answer, row, within=1e-9 if size == (32, 32) else 1e-7)
    else:
        agree(peer, ours, images_of(size), answer, row, interpolate_pos_encoding=True)


@pytest.mark.parametrize("case", ["ViT", "DeiT", "DeiT distilled", "I-JEPA"])
def test_hugging_faces_that_were_trained_on_wider_images(case, tmp_path):
    """The others of their classes take a square grid for granted, when they are made or when they resample."""
    name, kind, changes = HF[case]
    peer = hf_model(name, hf(kind, **changes | dict(image_size=(16, 40)))).double()
    peer.save_pretrained(tmp_path)
    ours = load_published(tmp_path)
    assert ours.config["img_size"] == (16, 40)
    agree(peer, ours, images_of((16, 40)), READ.get(name, hf_answer), ("Hugging Face, trained at that size", case))


def hf_cls(out):
    """What is read of a model whose pooler was a part of pre-training only."""
    return out.last_hidden_state[:, 0]


READ = {"ViTModel": hf_cls, "IJepaModel": lambda out: out.last_hidden_state.mean(dim=1)}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("spelling", ["on disk", "in memory"])
def test_hugging_faces_mae(spelling, size, tmp_path):
    """As it is published, with its decoder; nothing is hidden from it here."""
    sizes = dict(decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2)
    peer = hf_model("ViTMAEForPreTraining", hf("ViTMAE", image_size=32, mask_ratio=0.0, **sizes)).double()
    save_as(spelling, peer, tmp_path)
    ours = load_published(tmp_path, img_size=size)
    assert all(name.startswith("decoder.") for name in ours.provenance["dropped"])
    row = (f"Hugging Face, {spelling}", "MAE with its decoder")
    agree(peer.vit, ours, images_of(size), hf_cls, row, interpolate_pos_encoding=True)


TOWER = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("spelling", ["on disk", "in memory"])
def test_siglips_image_tower_beside_its_text_tower(spelling, size, tmp_path):
    """As it is published: what reads words is left out, tensor by tensor, and nothing else is."""
    text = TOWER | dict(vocab_size=40, bos_token_id=1, eos_token_id=2)
    vision = TOWER | dict(image_size=32, patch_size=8)
    peer = hf_model("SiglipModel", transformers.SiglipConfig(text_config=text, vision_config=vision)).double()
    save_as(spelling, peer, tmp_path)
    ours = load_published(tmp_path, img_size=size)
    left = {name for name in peer.state_dict() if not name.startswith("vision_model.")}
    assert ours.provenance["dropped"].keys() == left and {"logit_scale", "logit_bias"} < left
    row = (f"Hugging Face, {spelling}", "SigLIP beside its text tower")
    agree(peer.vision_model, ours, images_of(size), hf_answer, row, interpolate_pos_encoding=True)


@pytest.mark.parametrize("hidden", [None, 32], ids=["linear head", "hidden head"])
def test_torchvisions_vit(hidden, tmp_path):
    peer = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=CLASSES, representation_size=hidden)
    peer = redraw(peer).double()
    row = ("torchvision ViT", "hidden head" if hidden else "linear head")
    agree(peer, reread(peer, tmp_path / "vit.pth", num_heads=4), images_of((32, 32)), row=row)


SWIN = dict(embed_dim=16, depths=(2, 2), num_heads=(2, 4), num_classes=CLASSES)


@pytest.mark.parametrize("size", [(32, 32), (64, 32)], ids=["square", "not square"])
def test_timms_swin(size, tmp_path):
    peer = timm.models.swin_transformer.SwinTransformer(img_size=size, patch_size=4, window_size=4, **SWIN)
    peer = redraw(peer).double()
    ours = reread(peer, tmp_path / "model.safetensors", trained_at=size)
    agree(peer, ours, images_of(size), row=("timm Swin", "windows of 4"))


@pytest.mark.parametrize("size", [(32, 32), (64, 32), (44, 52)], ids=["square", "not square", "windows do not divide"])
def test_torchvisions_swin(size, tmp_path):
    peer = torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=CLASSES)
    peer = redraw(peer).double()
    ours = reread(peer, tmp_path / "swin.pth", trained_at=size)
    agree(peer, ours, images_of(size), row=("torchvision Swin", "windows of 4"))


@pytest.mark.parametrize("size", [(32, 32), (64, 96)], ids=["square", "not square"])
@pytest.mark.parametrize("spelling", ["on disk", "in memory"])
def test_hugging_faces_swin(spelling, size, tmp_path):
    config = transformers.SwinConfig(
        image_size=size, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=CLASSES
    )
    peer = hf_model("SwinForImageClassification", config).double()
    save_as(spelling, peer, tmp_path)
    agree(peer, load_published(tmp_path), images_of(size), hf_answer, (f"Hugging Face, {spelling}", "Swin"))


# The names that authors of their own repositories gave, on tensors of a peer: their code is not a dependency.


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_dinov2_as_its_authors_wrote_it(size, tmp_path):
    peer = timm_vit(size, reg_tokens=3, no_embed_class=True, init_values=0.1, num_classes=0).double()
    state = peer.state_dict()
    position = torch.randn(1, 1, 32, dtype=torch.float64)
    state["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    state |= {"cls_token": state["cls_token"] - position, "register_tokens": state.pop("reg_token")}
    state["mask_token"] = torch.zeros(1, 32, dtype=torch.float64)
    chunked = {name.replace("blocks.", "blocks.0.", 1): tensor for name, tensor in state.items()}
    for number, names in enumerate((state, chunked)):
        save_file(names, tmp_path / f"{number}.safetensors")
        ours = load_published(tmp_path / f"{number}.safetensors", num_heads=4, trained_at=size)
        assert ours.provenance["source"] == "dinov2" and "mask_token" in ours.provenance["dropped"]
        agree(peer, ours, images_of(size), row=("DINOv2", "registers, blocks in chunks" if number else "registers"))
        peer.double()


def in_double(peer):
    """timm's frequencies in double precision: in single, as it keeps them, they are 1e-7 apart from any others.

    It also forms places in single precision, which is exact only where a side is a power of two.
    """
    count = len(peer.rope.periods)
    peer.rope.periods = 100.0 ** (torch.arange(count, dtype=torch.float64) / count)
    return peer


def in_single(peer):
    """Hugging Face's angles stay as they are in single precision: in double they would be half single, half double."""
    frequencies = peer.rope_embeddings.inv_freq.clone()
    del peer.rope_embeddings.inv_freq
    peer.rope_embeddings.inv_freq = frequencies  # no buffer, so that `.double()` leaves it
    return peer


TIMM_DINOV3 = {
    "plain": {},
    "no bias": dict(qkv_bias=False),
    "SwiGLU": dict(swiglu_mlp=True, swiglu_align_to=8),
    "mean pool": dict(global_pool="avg", num_classes=CLASSES),
}


@contextlib.contextmanager
def double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def hf_dinov3(**changes):
    return hf("DINOv3ViT", image_size=32, num_register_tokens=2, layerscale_value=0.1, **changes)


@pytest.mark.parametrize("size", [(32, 32), (16, 64)], ids=["square", "not square"])
@pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
@pytest.mark.parametrize("spelling", ["on disk", "in memory"])
def test_hugging_faces_dinov3(gated, spelling, size, tmp_path):
    changes = dict(use_gated_mlp=True, hidden_act="silu") if gated else {}
    peer = in_single(hf_model("DINOv3ViTModel", hf_dinov3(**changes))).double()
    save_as(spelling, peer, tmp_path)
    ours = load_published(tmp_path, img_size=size)
    assert ours.provenance["source"] == "dinov3_hugging_face"
    row = (f"Hugging Face, {spelling}", "DINOv3, SwiGLU" if gated else "DINOv3")
    agree(peer, ours, images_of(size), hf_answer, row)


def timm_dinov3(**changes):
    sizes = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=0, global_pool="token")
    return redraw(timm.create_model("vit_small_patch16_dinov3_qkvb", **(sizes | changes)))


@pytest.mark.parametrize("size", [(32, 32), (16, 64)], ids=["square", "not square"])
@pytest.mark.parametrize("changes", TIMM_DINOV3.values(), ids=TIMM_DINOV3)
def test_timms_dinov3(changes, size, tmp_path):
    peer = in_double(timm_dinov3(**changes).double())
    pool = dict(pool=MeanPool) if "global_pool" in changes else {}
    with double():
        ours = reread(peer, tmp_path / "model.safetensors", num_heads=4, img_size=size, **pool)
    assert ours.provenance["source"] == "dinov3_timm"
    agree(peer, ours, images_of(size), row=("timm DINOv3", named(TIMM_DINOV3, changes)))


@pytest.mark.parametrize("size", [(32, 32), (16, 64)], ids=["square", "not square"])
@pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
def test_dinov3_as_its_authors_wrote_it(gated, size, tmp_path):
    peer = in_double(timm_dinov3(**(dict(swiglu_mlp=True, swiglu_align_to=8) if gated else {})).double())
    state = authors_dinov3(peer.state_dict())
    torch.save(state, tmp_path / "dinov3.pth")
    with double():
        ours = load_published(tmp_path / "dinov3.pth", num_heads=4, img_size=size)
    assert ours.provenance["source"] == "dinov3" and "rope_embed.periods" in ours.provenance["dropped"]
    agree(peer, ours, images_of(size), row=("DINOv3", "SwiGLU" if gated else "plain"))
    torch.save(state | {"rope_embed.periods": state["rope_embed.periods"] * 2}, tmp_path / "other.pth")
    with pytest.raises(StoreError, match="are not the periods of DINOv3"):
        load_published(tmp_path / "other.pth", num_heads=4)


def authors_dinov3(state):
    """timm's tensors under the authors' names, with a bias of keys that their mask takes away."""
    renamed = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    if "blocks.0.mlp.fc1_g.weight" in state:
        renamed |= {"mlp.fc1_g": "mlp.w1", "mlp.fc1_x": "mlp.w2", "mlp.fc2": "mlp.w3"}
    found = {"mask_token": torch.zeros(1, 32), "rope_embed.periods": 100.0 ** (torch.arange(2) / 2)}
    for name, tensor in state.items():
        for old, new in renamed.items():
            name = name.replace(old, new)
        if not name.endswith(("q_bias", "v_bias")):
            found[name] = tensor
    for block in range(2):
        q, v = (state[f"blocks.{block}.attn.{part}_bias"] for part in "qv")
        found[f"blocks.{block}.attn.qkv.bias"] = torch.cat([q, torch.ones_like(q), v])
        found[f"blocks.{block}.attn.qkv.bias_mask"] = torch.cat(
            [torch.ones_like(q), torch.zeros_like(q), torch.ones_like(q)]
        )
    return found


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_deit_3_as_its_authors_wrote_it(size, tmp_path):
    peer = timm_vit(size, init_values=0.1, no_embed_class=True).double()
    names = (name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2") for name in peer.state_dict())
    state = dict(zip(names, peer.state_dict().values()))
    torch.save({"model": state, "args": argparse.Namespace(lr=1e-3)}, tmp_path / "deit3.pth")
    ours = load_published(tmp_path / "deit3.pth", num_heads=4, trained_at=size)
    assert ours.provenance["source"] == "deit"
    agree(peer, ours, images_of(size), row=("DeiT III", "LayerScale"))


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("tuned", [False, True], ids=["pre-trained", "fine-tuned"])
def test_mae_as_its_authors_wrote_it(tuned, size, tmp_path):
    changes = dict(global_pool="avg") if tuned else dict(num_classes=0)
    peer = timm_vit(size, **changes).double()
    state = peer.state_dict()
    if not tuned:
        state |= {"mask_token": torch.zeros(1, 1, 32), "decoder_pos_embed": torch.zeros(1, 17, 16)}
        state |= {f"decoder_blocks.0.norm1.{kind}": torch.zeros(16) for kind in ("weight", "bias")}
    torch.save({"model": state}, tmp_path / "mae.pth")
    ours = load_published(tmp_path / "mae.pth", num_heads=4, source="mae", trained_at=size)
    agree(peer, ours.double(), images_of(size), row=("MAE", "fine-tuned" if tuned else "pre-trained"))


@pytest.mark.parametrize("size", [(32, 32), (64, 96)], ids=["square", "not square"])
def test_swin_as_its_authors_wrote_it(size, tmp_path):
    peer = timm.models.swin_transformer.SwinTransformer(img_size=size, patch_size=4, window_size=4, **SWIN)
    peer = redraw(peer).double()
    state = {}
    for name, tensor in peer.state_dict().items():
        name = name.replace("layers.1.downsample", "layers.0.downsample").replace("head.fc", "head")
        state[name] = tensor
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    torch.save({"model": state}, tmp_path / "swin.pth")
    ours = load_published(tmp_path / "swin.pth", trained_at=size)
    assert ours.provenance["source"] == "swin_microsoft"
    agree(peer, ours, images_of(size), row=("Microsoft Swin", "windows of 4"))
