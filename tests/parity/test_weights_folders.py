"""Folders and files that are not one checkpoint: the best of several, an adapter merged, a pickled model's way out."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_weights_in import agree, hf, hf_answer, hf_model, images_of, timm_vit
from torch import nn

import vitral
from vitral.base.errors import ConfigError, StoreError
from vitral.weights.reading.checkpoint_folder import find_best, list_checkpoints

SAID = dict(source="timm", num_heads=4)


def made(folder, *files, **states):
    """Empty files, and a Trainer's state per folder that states its best."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name, best in states.items():
        (folder / name.replace("_", "-") / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": best}))
    return folder


TRAINER = [f"checkpoint-{number}/model.safetensors" for number in (500, 1000, 1500)]
RESUMING = [f"checkpoint-500/{name}" for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")]
FOLDERS = {
    "a Trainer's": (TRAINER + RESUMING, dict(checkpoint_1500="out/checkpoint-1000"), "checkpoint-1000 (the best, as"),
    "trained on Windows": (TRAINER, dict(checkpoint_500="C:\\out\\checkpoint-500"), "checkpoint-500 (the best, as"),
    "shards": (
        ["checkpoint-1/model.safetensors.index.json", "checkpoint-2/model.safetensors.index.json"],
        dict(checkpoint_2="checkpoint-1/"),
        "checkpoint-1 (the best, as checkpoint-2/trainer_state.json states), checkpoint-2.",
    ),
    "timm's": (
        ["checkpoint-9.pth.tar", "model_best.pth.tar", "last.pth.tar", "args.yaml", "summary.csv"],
        {},
        "model_best.pth.tar (the best, by its name), last.pth.tar, checkpoint-9.pth.tar",
    ),
    "of two files": (
        ["weights/best.pt", "weights/last.pt"],
        {},
        "weights/best.pt (the best, by its name), weights/last",
    ),
    "Lightning's": (["epoch=1-step=10.ckpt", "epoch=3-step=30.ckpt"], {}, "epoch=3-step=30.ckpt, epoch=1-step=10.ckpt"),
    "adapters": (
        ["checkpoint-1/adapter_config.json", "checkpoint-2/adapter_config.json"],
        dict(checkpoint_2="x/checkpoint-2"),
        "checkpoint-2 (the best, as",
    ),
    "the best was deleted": (TRAINER, dict(checkpoint_1500="out/checkpoint-9"), "None of them is marked as the best"),
}


@pytest.mark.parametrize(("files", "states", "said"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_of_several_checkpoints_names_the_best_and_the_others(files, states, said, tmp_path):
    folder = made(tmp_path / "out", *files, **states)
    with pytest.raises(StoreError) as raised:
        vitral.load(folder)
    message, found = str(raised.value), list_checkpoints(folder)
    best, _ = find_best(folder, found)
    assert said in message and message.startswith(f"{folder} contains several checkpoints: ")
    assert message.endswith(f"Specify one: {best or found[0]}.")
    assert all(str(path.relative_to(folder)) in message for path in found)
    assert not any("optimizer" in path.name or "rng_state" in path.name for path in found)


def test_a_folder_of_one_checkpoint_under_another_name_leads_on(tmp_path):
    folder = made(tmp_path / "out", "weights.pth", "optimizer.pt")
    with pytest.raises(StoreError, match=r"contains one checkpoint, weights\.pth\. Specify it: .*weights\.pth\."):
        vitral.load(folder)


def adapted(base, targets, config):
    """The base with (alpha / r) B A added to each target, by hand; and the tensors that peft saves for it."""
    generator, saved = torch.Generator().manual_seed(3), {}
    for name, module in base.named_modules():
        if name.endswith(targets) and isinstance(module, nn.Linear | nn.Conv2d):
            rank = config.get("rank_pattern", {}).get(name, config["r"])
            weight = module.weight
            down = torch.randn(rank, *weight.shape[1:], generator=generator) * 0.1
            up = torch.randn(len(weight), rank, *[1] * (weight.ndim - 2), generator=generator) * 0.1
            scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
            with torch.no_grad():
                weight += scale * torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)).reshape(weight.shape)
            saved |= {f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}
    return saved


TARGETS = ("q_proj", "v_proj", "query", "value", "fc1", "projection")
LORA = dict(peft_type="LORA", r=3, lora_alpha=6)
CONFIGS = {
    "plain": {},
    "rank-stabilised": dict(use_rslora=True),
    "other ranks": dict(rank_pattern={"vit.layers.0.attention.q_proj": 2}),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("head", [False, True], ids=["base with a head", "base without"])
@pytest.mark.parametrize("where", ["stated", "beside the adapter", "given"])
def test_a_lora_adapter_is_merged_into_its_base(config, head, where, tmp_path):
    """transformers 5 names layers otherwise in memory, where peft saves them, than on disk."""
    config = LORA | config
    peer = hf_model("ViTForImageClassification", hf("ViT", image_size=32, num_labels=3))
    (peer.vit if head else peer).save_pretrained(tmp_path / "base")
    folder = tmp_path / "adapter"
    folder.mkdir()
    saved = adapted(peer, TARGETS, config)
    with torch.no_grad():
        peer.classifier.weight += 1
    saved |= {f"base_model.model.classifier.{name}": value for name, value in peer.classifier.named_parameters()}
    save_file(saved, folder / "adapter_model.safetensors")
    stated = {"stated": str(tmp_path / "base"), "beside the adapter": "../base", "given": "someone/else"}[where]
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": stated}))
    spec = f"{folder},base={tmp_path / 'base'}" if where == "given" else folder
    model = vitral.load(spec)
    images = images_of((32, 32)).float()
    with torch.no_grad():
        expected = peer(images).logits
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert any("the adapter in adapter merged into base" in line for line in model.provenance["assumed"])


def test_a_lora_adapter_of_timms_vit(tmp_path):
    peer = timm_vit((32, 32))
    torch.save(peer.state_dict(), tmp_path / "base.pth")
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(adapted(peer, ("qkv", "fc2"), LORA), folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(LORA))
    model = vitral.load(folder / "adapter_model.safetensors", base=str(tmp_path / "base.pth"), **SAID)
    agree(peer.double(), model, images_of((32, 32)), hf_answer, within=1e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(base_model_name_or_path="a/base"), r"its base, a/base, is not a file.*adapter,base=hf:a/base on the"),
        ({}, r"its base is not named in it.*adapter,base=FOLDER or .*base=hf:OWNER/NAME"),
        (dict(peft_type="IA3"), r"an adapter of type IA3; supported: LORA\. Merge it"),
        (dict(use_dora=True), r"has use_dora=True, which is not supported\. Merge it.*merge_and_unload"),
        (dict(base_model_name_or_path="base.pth"), r"changes other\.weight, which .*base\.pth does not have"),
    ],
    ids=range(5),
)
def test_an_adapter_that_cannot_be_merged_leads_on(config, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(timm_vit((32, 32)).state_dict(), "base.pth")
    folder = made(tmp_path / "adapter", "adapter_config.json")
    matrices = {f"base_model.model.other.lora_{part}.weight": torch.zeros(2, 2) for part in "AB"}
    save_file(matrices, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(LORA | config))
    with pytest.raises(StoreError, match=message):
        vitral.load(folder)


def test_a_base_is_for_adapters(tmp_path):
    torch.save(timm_vit((32, 32)).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ConfigError, match="base=x applies to LoRA adapters only"):
        vitral.load(tmp_path / "a.pth", base="x", **SAID)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


class Odd:
    """An object of a class that no library has."""


PICKLED = {
    "a model": (
        lambda: Net(),
        r"whole pickled model \(test_weights_folders\.Net\).*weights_only=False\); torch\.save\(model\.state_dict",
    ),
    "timm's model": (lambda: timm_vit((32, 32)), r"whole pickled model \(timm\.models\.vision_transformer\.Vision"),
    "a model in a mapping": (lambda: {"epoch": 3, "model": Net()}, r"whole pickled model \(test_weights_folders\.Net"),
    "another object": (
        lambda: {"state_dict": {}, "args": Odd()},
        r"objects of test_weights_folders\.Odd, which PyTorch",
    ),
}


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(("make", "message"), PICKLED.values(), ids=PICKLED)
def test_what_is_pickled_whole_is_told_how_to_save_its_weights(make, message, as_zip, tmp_path):
    torch.save(make(), tmp_path / "whole.pth", _use_new_zipfile_serialization=as_zip)
    with pytest.raises(StoreError, match=message):
        vitral.load(tmp_path / "whole.pth")


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_torchscript_archive(tmp_path):
    torch.jit.save(torch.jit.trace(Net().layer, torch.zeros(1, 2)), tmp_path / "script.pt")
    with pytest.raises(StoreError, match=r"is a TorchScript archive.*torch\.jit\.load\('script\.pt'\)\.state_dict"):
        vitral.load(tmp_path / "script.pt")


class Runs:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('ran').touch()",))


@pytest.mark.parametrize("place", [lambda own: own, lambda own: {"args": argparse.Namespace(path=own)}], ids=[0, 1])
def test_no_code_is_run_among_arguments(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": timm_vit((32, 32)).state_dict(), "config": place(Runs())}, "a.pth")
    with pytest.raises(StoreError, match=r"objects of builtins\.exec"):
        vitral.load("a.pth", **SAID)
    assert not (tmp_path / "ran").exists()


def test_arguments_of_harmless_kinds_are_read(tmp_path):
    arguments = SimpleNamespace(lr=np.float32(0.1), best=np.int64(3), history=np.ones((2, 2)), where=tmp_path)
    torch.save({"state_dict": timm_vit((32, 32)).state_dict(), "args": arguments}, tmp_path / "a.pth")
    assert vitral.load(tmp_path / "a.pth", **SAID).provenance["source"] == "timm"


def test_an_array_of_objects_is_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": timm_vit((32, 32)).state_dict(), "args": {"a": np.array([Runs()], dtype=object)}}
    torch.save(content, "a.pth")
    with pytest.raises(StoreError):
        vitral.load("a.pth", **SAID)
    assert not (tmp_path / "ran").exists()
