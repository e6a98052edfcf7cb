"""Models in what they were trained in, and with a head of the reader's own: the peer's logits are the right ones."""

import argparse

import pytest
import torch
from safetensors.torch import save_file
from test_weights_in import agree, hf, hf_answer, hf_model, images_of, reread, timm_vit
from torch import nn

import vitral
from peers import timm, torchvision, transformers
from tiny import redraw
from vitral.base.errors import ConfigError, StoreError
from vitral.data.preprocess import batch_of
from vitral.weights.head_layer import ENDS

SAID = dict(source="timm", num_heads=4)
PREFIXES = ["model.", "net.", "backbone.", "module.model.", "encoder.", "_orig_mod.", "model._orig_mod.", "vit."]
PREFIXES += ["model.backbone.", "lit.model.vit.", "_fsdp_wrapped_module.", "timm_model.", "model.module."]


def prefixed(state, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_that_all_names_share(prefix, tmp_path):
    peer = timm_vit((32, 32)).double()
    others = {"criterion.weight": torch.ones(3), "train_acc.total": torch.ones(2), "loss_fn.bias": torch.ones(2)}
    content = {"state_dict": prefixed(peer.state_dict(), prefix) | others, "optimizer_states": [], "epoch": 3}
    torch.save(content, tmp_path / "l.ckpt")
    model = vitral.load(tmp_path / "l.ckpt", **SAID)
    agree(peer, model, images_of((32, 32)))
    assert model.provenance["dropped"] == dict.fromkeys(others, "it belongs to the training script")
    shown = prefix.replace("_orig_mod.", "").replace("_fsdp_wrapped_module.", "").removeprefix("module.")
    said = [line for line in model.provenance["assumed"] if "begin with" in line]
    assert said == ([f"the model consists of the tensors whose names begin with {shown!r}"] if shown else [])


def test_parts_that_are_compiled_or_computed_twice(tmp_path):
    peer = timm_vit((32, 32)).double()
    for inner in ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"):
        state = {name.replace(".attn.", f".{inner}.attn."): tensor for name, tensor in peer.state_dict().items()}
        torch.save({"model": state}, tmp_path / "t.pth")
        agree(peer, vitral.load(tmp_path / "t.pth", **SAID), images_of((32, 32)))


OTHERS = {
    "torchvision": lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=5),
    "torchvision's Swin": lambda: torchvision.models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5),
    "timm's Swin": lambda: timm.models.swin_transformer.SwinTransformer(
        img_size=32, patch_size=4, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 4), num_classes=5
    ),
    "Hugging Face": lambda: hf_model("ViTForImageClassification", hf("ViT", image_size=32, num_labels=5)),
    "Hugging Face's Swin": lambda: hf_model(
        "SwinForImageClassification",
        transformers.SwinConfig(
            image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=5
        ),
    ),
}


@pytest.mark.parametrize("prefix", ["", "model.", "module.net."])
@pytest.mark.parametrize("build", OTHERS.values(), ids=OTHERS)
def test_other_formats_below_a_prefix(build, prefix, tmp_path):
    peer = redraw(build()).double()
    torch.save({"state_dict": prefixed(peer.state_dict(), prefix)}, tmp_path / "l.ckpt")
    heads = {} if "Swin" in type(peer).__name__ else dict(num_heads=4)
    agree(peer, vitral.load(tmp_path / "l.ckpt", **heads), images_of((32, 32)), hf_answer)


class Around(nn.Module):
    """A reader's own: a backbone, and beside it a layer for its classes."""

    def __init__(self, backbone, **parts):
        super().__init__()
        self.backbone = backbone
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, images):
        return self.get_submodule(list(self._modules)[-1])(self.backbone(images))


@pytest.mark.parametrize("name", ["fc", "head", "classifier", "linear"])
@pytest.mark.parametrize("dropout", [False, True], ids=["linear", "dropout, linear"])
def test_a_head_beside_its_backbone(name, dropout, tmp_path):
    linear = nn.Linear(32, 3)
    own = Around(
        timm_vit((32, 32), num_classes=0), **{name: nn.Sequential(nn.Dropout(), linear) if dropout else linear}
    )
    peer = redraw(own).double()
    model = reread(peer, tmp_path / "own.pth", **SAID)
    agree(peer, model, images_of((32, 32)))
    assert any("is the head" in line for line in model.provenance["assumed"]) and not model.provenance["dropped"]


LAYERS = [nn.Linear(5, 3), nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))]


@pytest.mark.parametrize("outer", LAYERS, ids=["one layer", "several"])
def test_two_layers_that_may_be_the_head(outer, tmp_path):
    own = Around(timm_vit((32, 32)), fc=outer)
    with pytest.raises(
        StoreError, match=r"two layers that may be the head: fc[.\w]* outside 'backbone\.' and head\.\w"
    ):
        reread(own, tmp_path / "own.pth", **SAID)


def test_a_head_of_several_layers_beside_its_backbone_is_left_out_aloud(tmp_path):
    own = Around(timm_vit((32, 32), num_classes=0), fc=nn.Sequential(nn.Linear(32, 4), nn.ReLU(), nn.Linear(4, 3)))
    peer = redraw(own).double()
    model = reread(peer, tmp_path / "own.pth", **SAID)
    agree(peer.backbone, model, images_of((32, 32)))
    assert model.classes == () and set(model.provenance["dropped"]) == {f"fc.{i}.{p}" for i in (0, 2) for p in ENDS}
    assert all("a head of several layers" in why for why in model.provenance["dropped"].values())


class Normalised(nn.Module):
    """Pixels normalised by the model itself."""

    def __init__(self, model):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1))
        self.model = model

    def forward(self, images):
        return self.model((images - self.mean) / self.std)


@torch.no_grad()
def test_a_layer_that_normalises_pixels_becomes_preprocessing(tmp_path):
    peer = Normalised(timm_vit((32, 32)))
    for number, names in enumerate((("", "model."), ("0.", "1."))):
        state = {
            f"{names[0]}mean": peer.mean,
            f"{names[0]}std": peer.std,
            **prefixed(peer.model.state_dict(), names[1]),
        }
        torch.save(state, tmp_path / f"{number}.pth")
        model = vitral.load(tmp_path / f"{number}.pth", **SAID)
        photo = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8).numpy()
        found = model(batch_of([photo], model.preprocessing))
        expected = peer(torch.from_numpy(photo).permute(2, 0, 1)[None] / 255)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert "normalises pixels" in model.provenance["dropped"][f"{names[0]}mean"]


@pytest.mark.parametrize("pooler", [True, False])
def test_a_head_beside_a_backbone_of_transformers(pooler, tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = hf_model("ViTModel", hf("ViT", image_size=32))
            self.backbone.pooler = self.backbone.pooler if pooler else None
            self.classifier = nn.Linear(32, 3)

        def forward(self, images):
            return self.classifier(self.backbone(images).last_hidden_state[:, 0])

    peer = redraw(Own()).double()
    model = reread(peer, tmp_path / "own.pth", num_heads=4)
    agree(peer, model, images_of((32, 32)))
    assert any("not the output of the pooler" in line for line in model.provenance["assumed"]) == pooler


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        (dict(arch="vit_base_patch16_rpn_224"), "training names the architecture 'vit_base_patch16_rpn_224'"),
        (dict(arch="vit_base_patch16_224", model_kwargs={"act_layer": "relu"}), "training has act_layer='relu'"),
    ],
    ids=["another architecture", "another activation"],
)
def test_what_timms_script_trained_may_be_another_function(trained, message, tmp_path):
    arguments = argparse.Namespace(mean=None, std=None, crop_pct=None, model_kwargs=trained.pop("model_kwargs", {}))
    torch.save({"state_dict": timm_vit((32, 32)).state_dict(), "args": arguments, **trained}, tmp_path / "t.pth.tar")
    with pytest.raises((StoreError, ConfigError), match=message):
        vitral.load(tmp_path / "t.pth.tar", num_heads=4)


def with_head(model, name, head):
    setattr(model, name, head)
    return redraw(model).double()


DROPOUT = nn.Sequential(nn.Dropout(0.5), nn.Linear(32, 3))
HEADS = {
    "linear": nn.Linear(32, 3),
    "without bias": nn.Linear(32, 3, bias=False),
    "dropout, linear": DROPOUT,
    "linear alone in a sequence": nn.Sequential(nn.Linear(32, 3)),
    "identity, dropout, linear": nn.Sequential(nn.Identity(), nn.Dropout(), nn.Linear(32, 3)),
}
LIBRARIES = {
    "torchvision's heads": (lambda: OTHERS["torchvision"](), "heads", lambda own, x: own(x)),
    "torchvision's heads.head": (lambda: OTHERS["torchvision"](), "heads.head", lambda own, x: own(x)),
    "timm's head": (lambda: timm_vit((32, 32)), "head", lambda own, x: own(x)),
    "Hugging Face's classifier": (OTHERS["Hugging Face"], "classifier", lambda own, x: own(x).logits),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("build", "name", "answer"), LIBRARIES.values(), ids=LIBRARIES)
def test_a_head_that_was_replaced(build, name, answer, head, tmp_path):
    own = build()
    parent, _, last = name.rpartition(".")
    setattr(own.get_submodule(parent), last, HEADS[head])
    peer = redraw(own).double()
    torch.save(peer.state_dict(), tmp_path / "own.pth")
    source = {"source": "timm"} if "timm" in type(own).__module__ else {}
    model = vitral.load(tmp_path / "own.pth", num_heads=4, **source)
    with torch.no_grad():
        expected = answer(peer, images := images_of((32, 32)))
        assert (model.double()(images) - expected).abs().max() < 1e-9 * expected.abs().max()
    assert len(model.classes) == 3


def test_a_head_of_several_layers_is_refused_and_can_be_left_out(tmp_path):
    peer = with_head(timm_vit((32, 32)), "head", nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 3)))
    torch.save(peer.state_dict(), tmp_path / "own.pth")
    with pytest.raises(StoreError, match=r"do not show what it computes: head\.0\.weight \(8, 32\).*num_classes=0"):
        vitral.load(tmp_path / "own.pth", **SAID)
    model = vitral.load(tmp_path / "own.pth", **SAID, num_classes=0)
    assert set(model.provenance["dropped"]) == {f"head.{i}.{p}" for i in (0, 2) for p in ("weight", "bias")}
    with torch.no_grad():
        images = images_of((32, 32))
        torch.testing.assert_close(model.double()(images), peer.forward_head(peer.forward_features(images), True))


class OldViT(nn.Module):
    """timm's until version 0.6 with `representation_size`: a linear layer and tanh before the head."""

    def __init__(self):
        super().__init__()
        self.vit = timm_vit((32, 32), num_classes=0)
        self.pre_logits = nn.Sequential()
        self.pre_logits.add_module("fc", nn.Linear(32, 32))
        self.pre_logits.add_module("act", nn.Tanh())
        self.head = nn.Linear(32, 5)

    def forward(self, images):
        return self.head(self.pre_logits(self.vit(images)))


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_pre_logits_of_old_timm(prefix, tmp_path):
    peer = redraw(OldViT()).double()
    state = {name.removeprefix("vit."): tensor for name, tensor in peer.state_dict().items()}
    torch.save(prefixed(state, prefix), tmp_path / "old.pth")
    model = vitral.load(tmp_path / "old.pth", **SAID)
    agree(peer, model, images_of((32, 32)))
    assert any(line.startswith("pre_logits is a linear layer with tanh") for line in model.provenance["assumed"])


PAIRS = {
    "DINOv2": ("student", "teacher", "{}.backbone."),
    "of one module": ("model", "ema_model", "{}."),
    "timm's class": ("model", "model_ema", "{}.module."),
    "BYOL": ("online_encoder", "target_encoder", "{}.net."),
    "in several processes": ("student", "teacher", "module.{}."),
}


@pytest.mark.parametrize(("one", "mean", "prefix"), PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("inside", [True, False], ids=["in a mapping", "at the top"])
def test_two_models_in_one_mapping(one, mean, prefix, inside, tmp_path):
    peers = {one: timm_vit((32, 32)).double(), mean: timm_vit((32, 32)).double()}
    redraw(peers[mean], seed=1)
    state = {}
    for name, peer in peers.items():
        state |= prefixed(peer.state_dict(), prefix.format(name))
    state |= {"dino_loss.center": torch.zeros(1, 4), f"{mean}.dino_head.mlp.0.weight": torch.zeros(4, 32)}
    torch.save({"net": state, "iteration": 3} if inside else state, tmp_path / "d.pth")
    path = tmp_path / "d.pth"
    said = (
        rf"several sets of weights: (net\.)?{mean} \(a moving average\), (net\.)?{one}\. Specify one: d\.pth,weights="
    )
    with pytest.raises(StoreError, match=said):
        vitral.load(path, **SAID)
    for name, peer in peers.items():
        model = vitral.load(path, **SAID, weights=name)
        agree(peer, model, images_of((32, 32)))
        assert "dino_loss.center" in model.provenance["dropped"]
        peer.double()


@pytest.mark.parametrize("said", [dict(img_size=(16, 40)), dict(trained_at=(16, 40)), dict(grid=(2, 5))], ids=str)
def test_a_size_that_explains_the_positions(said, tmp_path):
    """10 patches and CLS, or 2 registers: neither is a square."""
    for changes in ({}, dict(reg_tokens=2), dict(no_embed_class=True)):
        peer = timm_vit((16, 40), **changes).double()
        agree(peer, reread(peer, tmp_path / "n.pth", **SAID, **said), images_of((16, 40)))


def test_a_size_that_explains_the_positions_comes_before_a_square(tmp_path):
    """15 patches and CLS are 16 rows: a square of 4 x 4 without a position for CLS, if nobody says otherwise."""
    peer = timm_vit((24, 40)).double()
    model = reread(peer, tmp_path / "n.pth", **SAID, img_size=(24, 40))
    agree(peer, model, images_of((24, 40)))
    assert any("the positions are for images of 24 x 40" in line for line in model.provenance["assumed"])
    agree(peer.double(), vitral.load(f"{tmp_path / 'n.pth'},source=timm,num_heads=4,grid=3x5"), images_of((24, 40)))
    guessed = vitral.load(tmp_path / "n.pth", **SAID)
    assert guessed.grid == (4, 4) and any("square grid" in line for line in guessed.provenance["assumed"])


def test_a_grid_that_is_not_the_positions(tmp_path):
    with pytest.raises(
        StoreError, match=r"16 x 32 has 8 patches, but the checkpoint has 17 positions for 1 tokens and"
    ):
        reread(timm_vit((32, 32)), tmp_path / "n.pth", **SAID, grid=(2, 4))
    with pytest.raises(ConfigError, match=r"grid=2x4 is for images of 16 x 32.*trained_at=32x32"):
        reread(timm_vit((32, 32)), tmp_path / "n.pth", **SAID, grid=(2, 4), trained_at=32)


SCALES = {
    "int8, one per output": (torch.int8, 127, True, "weight_scale"),
    "int8, one for all": (torch.int8, 127, False, "weight_scale"),
    "float8": (torch.float8_e4m3fn, 448, True, "weight_scale"),
    "bitsandbytes": (torch.int8, 127, True, "SCB"),
}


@pytest.mark.parametrize(("dtype", "largest", "by_row", "word"), SCALES.values(), ids=SCALES)
def test_eight_bits_with_their_scales(dtype, largest, by_row, word, tmp_path):
    peer = timm_vit((32, 32))
    state, stored = peer.state_dict(), {}
    for name, tensor in state.items():
        if name.endswith(("fc1.weight", "proj.weight", "qkv.weight")) and tensor.ndim == 2:
            most = tensor.abs().amax(dim=1 if by_row else None)
            scale = most / largest
            whole = tensor / (scale[:, None] if by_row else scale)
            stored[name] = (whole.round() if dtype == torch.int8 else whole).to(dtype)
            stored[name.replace("weight", word)] = most if word == "SCB" else scale
            state[name] = stored[name].float() * (scale[:, None] if by_row else scale)
        else:
            stored[name] = tensor
    save_file(stored, tmp_path / "model.safetensors")
    peer.load_state_dict(state)
    model = vitral.load(tmp_path / "model.safetensors", **SAID)
    with torch.no_grad():
        images = images_of((32, 32)).float()
        torch.testing.assert_close(model(images), peer(images), rtol=1e-4, atol=1e-4)
    assert any("weights of 8 bits multiplied by their scales" in line for line in model.provenance["assumed"])


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"blocks.0.attn.qkv.qweight": torch.zeros(4, 4, dtype=torch.int32)}, r"quantised \(GPTQ or AWQ"),
        ({"blocks.0.attn.qkv.weight.absmax": torch.zeros(4)}, r"quantised \(bitsandbytes' 4 bits"),
        ({"blocks.0.attn.qkv.weight": torch.zeros(96, 32, dtype=torch.uint8)}, "dtype uint8 and no scale beside it"),
        ({"blocks.0.attn.qkv.weight_scale_inv": torch.zeros(1, 1)}, r"quantised \(float8 in blocks"),
        (
            {
                "blocks.0.attn.qkv.weight": torch.zeros(96, 32, dtype=torch.int8),
                "blocks.0.attn.qkv.weight_scale": torch.zeros(96, 2),
            },
            r"scales of shape \(96, 2\)",
        ),
    ],
    ids=range(5),
)
def test_quantised_files_that_are_not_exact_lead_on(others, message, tmp_path):
    save_file(timm_vit((32, 32)).state_dict() | others, tmp_path / "model.safetensors")
    with pytest.raises(StoreError, match=f"{message}.*Save it dequantised"):
        vitral.load(tmp_path / "model.safetensors", **SAID)
