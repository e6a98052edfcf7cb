"""Damaged, foreign and hostile files are refused in a sentence: nothing crashes, runs code, or is read in part."""

import argparse
import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from tiny import tiny_vit
from vitral.base.errors import ConfigError, StoreError, UnknownName
from vitral.base.record import ModelRecord, attach_record
from vitral.weights.convert import write
from vitral.weights.load import load
from vitral.weights.published import load_published
from vitral.weights.reading.checkpoint_file import read_checkpoint
from vitral.weights.spec import CheckpointSpec, parse_checkpoint_spec

SAID = dict(source="timm", num_heads=4, trained_at=(8, 18))


@pytest.fixture(scope="module")
def state():
    return tiny_vit().state_dict()


def in_torch(state, as_zip=True):
    content = io.BytesIO()
    torch.save(state, content, _use_new_zipfile_serialization=as_zip)
    return content.getvalue()


def in_npz(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("npz")
    model = tiny_vit()
    write(attach_record(model, ModelRecord(tuple("abcde"), model.preprocessing)), folder, "npz")
    return (folder / "model.npz").read_bytes()


@pytest.fixture(scope="module")
def files(state, tmp_path_factory):
    return {
        "safetensors": save(state),
        "torch": in_torch(state),
        "torch before 1.6": in_torch(state, as_zip=False),
        "npz": in_npz(state, tmp_path_factory),
    }


KINDS = ("safetensors", "torch", "torch before 1.6", "npz")
damaged = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(files, kind, tmp_path, state):
    path = tmp_path / "file"
    path.write_bytes(files[kind])
    model = load_published(path, **(SAID if kind != "npz" else {"trained_at": (8, 18)}))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name])


@pytest.mark.parametrize("kind", KINDS)
@damaged
@given(share=st.floats(0, 1, exclude_max=True))
def test_the_beginning_of_a_file_is_refused(files, kind, tmp_path, share):
    path = tmp_path / "file"
    path.write_bytes(files[kind][: int(share * len(files[kind]))])
    with pytest.raises(StoreError):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", KINDS)
@damaged
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), start=st.booleans())
def test_a_flipped_bit_is_refused_or_changes_a_number(files, kind, tmp_path, place, bit, start):
    """safetensors and old torch files carry no checksum: there only what is structure can be found out."""
    content = bytearray(files[kind])
    content[int(place * (400 if start else len(content)))] ^= 1 << bit
    path = tmp_path / "file"
    path.write_bytes(content)
    try:
        tensors = read_checkpoint(path).tensors
    except StoreError:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())


class Runs:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('ran').touch()",))


@pytest.mark.parametrize("how", ["pickle", "torch", "npz"])
def test_no_code_of_a_file_is_run(how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file"
    if how == "torch":
        torch.save({"blocks": Runs()}, path)
    elif how == "pickle":
        path.write_bytes(pickle.dumps({"blocks": Runs()}))
    else:
        with path.open("wb") as file:
            np.savez(file, kernel=np.array([Runs()], dtype=object))
    with pytest.raises(StoreError):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is a web page"),
        (b"\n  <html><head></head></html>        ", "is a web page"),
        (b"", "has 0 bytes"),
        (b"hello, world, this is text", "PyTorch cannot read it without running code"),
        (save({}), "does not contain tensors by name; it contains nothing"),
        (save({"a": torch.tensor([1.0, float("nan")])}), "NaN or infinite, in a: it is damaged"),
        (in_torch([torch.zeros(3)]), "contains a list, not tensors by name"),
        (in_torch({"epoch": 3}), "does not contain tensors by name; it contains epoch"),
        (save({"weight": torch.zeros(3)}), "is not in a format that Vitral reads"),
    ],
    ids=range(10),
)
def test_what_is_no_checkpoint_is_named(content, message, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        load_published(path)


def test_a_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kernel.npy", bytes(200_000_000))
    with pytest.raises(StoreError):
        read_checkpoint(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pth"


def assert_holds(path, state, **options):
    """The checkpoint is read, and has these weights."""
    torch.testing.assert_close(dict(load_published(path, **SAID, **options).state_dict()), dict(state))


def test_training_scripts_wrap_the_weights(state, path):
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": wrapped, "args": argparse.Namespace(lr=1.0), "epoch": 3}, path)
    assert_holds(path, state)


def shifted(state, by):
    return {name: tensor + by for name, tensor in state.items()}


SCRIPTS = {
    "timm": ("state_dict", "state_dict_ema"),
    "DeiT": ("model", "model_ema"),
    "DINO": ("student", "teacher"),
    "YOLO": ("model", "ema"),
    "MMEngine": ("state_dict", "ema_state_dict"),
    "BasicSR": ("params", "params_ema"),
    "by other words": ("net", "ema_model"),
}


@pytest.mark.parametrize(("one", "mean"), SCRIPTS.values(), ids=SCRIPTS)
def test_of_weights_and_their_running_mean_neither_is_chosen(one, mean, state, path):
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({one: state, mean: shifted(state, 1), "optimizer": optimizer, "epoch": 3}, path)
    message = rf"several sets of weights: {mean} \(a moving average\), {one}\. Specify one:.*weights='{mean}'"
    with pytest.raises(StoreError, match=message):
        load_published(path, **SAID)
    for chosen, other, by in ((one, mean, 0), (mean, one, 1)):
        model = load(f"{path},weights={chosen},source=timm,num_heads=4,trained_at=8x18")
        torch.testing.assert_close(dict(model.state_dict()), shifted(state, by))
        assert f"the weights called {chosen}, not {other}" in model.provenance["assumed"]
    message = rf"does not contain weights={mean}x\. Did you mean '{mean}'\?.*It has: {mean}, {one}"
    with pytest.raises(UnknownName, match=message):
        load_published(path, **SAID, weights=f"{mean}x")


def test_a_file_of_one_set_has_no_other(file):
    with pytest.raises(UnknownName, match="It contains one set of weights, which has no name"):
        load_published(file, **SAID, weights="model_ema")


@pytest.mark.parametrize("name", ["ema", "net", "params"])
def test_one_set_is_read_whatever_it_is_called(name, state, path):
    optimizer = torch.optim.AdamW(tiny_vit().parameters())
    sum(parameter.sum() for group in optimizer.param_groups for parameter in group["params"]).backward()
    optimizer.step()
    rest = {"optimizer": optimizer.state_dict(), "rng": {"torch": torch.get_rng_state()}, "best": torch.tensor(0.9)}
    torch.save({name: state} | rest, path)
    assert_holds(path, state)
    with pytest.raises(UnknownName, match=rf"does not contain weights=model\..*It has: {name}\."):
        load_published(path, **SAID, weights="model")


def test_weights_beside_a_set_with_a_name(state, path):
    torch.save({**state, "state_dict_ema": shifted(state, 1)}, path)
    message = r"several sets of weights: state_dict_ema \(a moving average\), bare"
    with pytest.raises(StoreError, match=message):
        load_published(path, **SAID)
    for chosen, by in (("bare", 0), ("state_dict_ema", 1)):
        assert_holds(path, shifted(state, by), weights=chosen)


def test_sets_within_sets(state, path):
    torch.save({"model": {"state_dict": state, "ema": shifted(state, 1)}, "teacher": shifted(state, 2)}, path)
    with pytest.raises(
        StoreError, match=r"several sets of weights: model\.ema \(.*\), model\.state_dict.*weights='model\.ema"
    ):
        load_published(path, **SAID, weights="model")
    for chosen, by in (("model.state_dict", 0), ("model.ema", 1), ("ema", 1), ("teacher", 2)):
        assert_holds(path, shifted(state, by), weights=chosen)


@pytest.mark.parametrize("wrapped", ["_orig_mod.module.", "module._orig_mod.", "module.module."])
def test_models_that_were_wrapped_twice(wrapped, state, path):
    torch.save({f"{wrapped}{name}": tensor for name, tensor in state.items()}, path)
    assert_holds(path, state)


def test_a_name_that_is_there_wrapped_and_bare(state, tmp_path):
    torch.save({**state, "module.norm.bias": state["norm.bias"] + 1}, tmp_path / "checkpoint.pth")
    with pytest.raises(StoreError, match=r"contains norm\.bias twice, with and without module\. or _orig_mod\."):
        load_published(tmp_path / "checkpoint.pth", **SAID)


def test_a_mean_as_pytorch_keeps_it(state, tmp_path):
    """torchvision's scripts save it so: with a count, and names that begin with `module.`."""
    mean = torch.optim.swa_utils.AveragedModel(tiny_vit()).state_dict()
    torch.save({"model": state, "model_ema": mean}, tmp_path / "checkpoint.pth")
    model = load_published(tmp_path / "checkpoint.pth", **SAID, weights="model_ema")
    torch.testing.assert_close(dict(model.state_dict()), dict(tiny_vit().state_dict()))
    assert model.provenance["dropped"] == {"n_averaged": "a counter of the training script"}


@pytest.mark.parametrize("wrapped", ["", "module."], ids=["one process", "several"])
def test_what_dino_trains_is_a_backbone_and_a_head(state, wrapped, tmp_path):
    whole = {f"{wrapped}backbone.{name}": tensor for name, tensor in state.items() if not name.startswith("head.")}
    whole |= {f"{wrapped}head.mlp.0.weight": torch.zeros(2, 2)}
    torch.save({"student": whole, "teacher": shifted(whole, 1), "epoch": 3}, tmp_path / "checkpoint.pth")
    model = load_published(tmp_path / "checkpoint.pth", **SAID, weights="teacher")
    assert model.provenance["dropped"] == {"head.mlp.0.weight": "used in pre-training only"}
    torch.testing.assert_close(model.state_dict()["norm.bias"], state["norm.bias"] + 1)
    assert model.config["num_classes"] == 0


@pytest.fixture
def sharded(state, tmp_path):
    names = sorted(state)
    shards = {f"model-{number}.safetensors": names[number::2] for number in range(2)}
    for file, own in shards.items():
        save_file({name: state[name].contiguous() for name in own}, tmp_path / file)
    index = {"weight_map": {name: file for file, own in shards.items() for name in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path


def test_shards_are_read_together(sharded, state):
    assert_holds(sharded, state)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, "names shards that do not exist"),
        ("{}", "has no weight_map"),
        ("{", "cannot be read as JSON"),
        ('{"weight_map": {"a": "../../secret.safetensors"}}', "not in its folder"),
    ],
    ids=range(4),
)
def test_an_index_that_is_wrong(sharded, index, message):
    if index is None:
        (sharded / "model-1.safetensors").unlink()
    else:
        (sharded / "model.safetensors.index.json").write_text(index)
    with pytest.raises(StoreError, match=message):
        read_checkpoint(sharded)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("norm.weight"), "lacks norm.weight"),
        (lambda state: state.update(extra=torch.zeros(2)), "have no place in the model: extra"),
        (lambda state: state.update({"norm.weight": torch.zeros(3)}), r"norm.weight has shape \(3,\)"),
        (
            lambda state: state.update({"blocks.1.mlp.fc1.weight": torch.zeros(3, 16)}),
            "blocks.1.mlp.fc1.weight has shape",
        ),
        (lambda state: state.pop("blocks.1.attn.proj.bias"), "lacks blocks.1.attn.proj.bias"),
        (lambda state: state.pop("patch_embed.proj.weight"), "no tensor for patch_embed.proj.weight"),
    ],
    ids=range(6),
)
def test_every_tensor_is_accounted_for(state, change, message, tmp_path):
    changed = dict(state)
    change(changed)
    save_file(changed, tmp_path / "file")
    with pytest.raises(StoreError, match=message):
        load_published(tmp_path / "file", **SAID)


@pytest.fixture
def file(state, tmp_path):
    save_file(state, tmp_path / "file")
    return tmp_path / "file"


def test_two_readings_that_both_fit_are_not_chosen_between(file):
    message = r"matches several formats \(deit, timm\) that differ in preprocessing; specify source=.*file,source=deit"
    with pytest.raises(StoreError, match=message):
        load_published(file, num_heads=4, trained_at=(8, 18))


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        (dict(source="tim"), UnknownName, "no source 'tim'.*Did you mean 'timm'"),
        (dict(source="timm"), StoreError, "do not show the number of heads"),
        (dict(source="timm", num_heads=4), StoreError, "7 positions and 1 tokens.*trained_at"),
        (dict(source="timm", num_heads=4, trained_at=(8, 12)), StoreError, "4 patches, but the checkpoint has 7"),
        (dict(SAID, embed_dim=32), ConfigError, "embed_dim=32 was requested, but the checkpoint has embed_dim=16"),
        (dict(SAID, img_size=(12, 12), resampling="tim"), ConfigError, "Did you mean 'timm'"),
    ],
    ids=range(6),
)
def test_what_must_be_said_and_what_contradicts(file, said, error, message):
    with pytest.raises(error, match=message):
        load_published(file, **said)


def test_what_was_assumed_and_done_travels_with_the_model(file):
    model = load_published(file, **SAID, img_size=(12, 12), num_classes=3, in_channels=1, std=(0.2, 0.2, 0.2))
    assert model.provenance["source"] == "timm" and len(model.provenance["sha256"]) == 64
    said = " ".join(model.provenance["assumed"])
    for part in (
        "no file or option states: mean 0.5/0.5/0.5, crop 1,",
        "resampled to 3 x 2 by timm",
        "a new head for 3 classes",
    ):
        assert part in said
    assert "3 input channels converted to 1" in said
    assert model.preprocessing.std == pytest.approx((0.2,)) and "luminance" in said and "averaged" in said
    assert model.preprocessing.size == (12, 12)
    assert model(torch.randn(2, 1, 12, 12)).shape == (2, 3)


def test_a_grey_image_is_what_three_equal_channels_are(file):
    grey, colour = load_published(file, **SAID, in_channels=1), load_published(file, **SAID)
    images = torch.randn(2, 1, 8, 18)
    with torch.no_grad():
        torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)))


def test_a_run_cannot_be_loaded_otherwise(tmp_path):
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ConfigError, match="loaded as it was trained: img_size cannot be changed"):
        load(tmp_path, img_size=32)


def test_a_head_of_a_thousand_is_imagenets(tmp_path):
    model = tiny_vit(num_classes=1000)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    found = load_published(tmp_path / "model.safetensors", **SAID)
    assert len(set(found.classes)) == 1000
    known = {0: "tench", 1: "goldfish", 281: "tabby", 999: "toilet tissue"}
    assert {number: found.classes[number] for number in known} == known
    assert any("ImageNet-1k" in line for line in found.provenance["assumed"])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("source=timm,num_heads=4,trained_at=8x18", dict(source="timm", num_heads=4, trained_at=(8, 18))),
        ("trained_at=224", dict(trained_at=(224, 224))),
    ],
)
def test_what_a_file_does_not_say_is_said_behind_its_path(said, expected, tmp_path):
    found = parse_checkpoint_spec(f"{tmp_path}/model.pth,{said}")
    assert (found.location, found.options) == (f"{tmp_path}/model.pth", expected)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("sources=timm", r"Unknown checkpoint option 'sources'\. Did you mean 'source'\?"),
        ("num_heads=many", r"num_heads='many' cannot be parsed\. Example: num_heads=12"),
        ("trained_at=8x", r"trained_at='8x' cannot be parsed\. Example: trained_at=224x320"),
    ],
)
def test_what_cannot_be_said_behind_a_path(said, message):
    with pytest.raises(ConfigError, match=message):
        parse_checkpoint_spec(f"model.pth,{said}")


def test_a_path_with_a_comma_is_a_path(tmp_path):
    path = tmp_path / "a,b.pth"
    path.touch()
    assert parse_checkpoint_spec(path) == CheckpointSpec("published", str(path))


def test_the_command_line_loads_by_what_is_said(state, tmp_path):
    save_file(state, tmp_path / "model.safetensors")
    model = load(f"{tmp_path / 'model.safetensors'},source=timm,num_heads=4,trained_at=8x18")
    assert model.config["num_heads"] == 4


def test_a_file_that_holds_itself_is_refused(tmp_path):
    loop = {}
    loop |= {"model": loop, "ema": {"model": loop, "ema": loop}}
    torch.save(loop, tmp_path / "checkpoint.pth")
    with pytest.raises(StoreError, match=r"checkpoint\.pth does not contain tensors"):
        load_published(tmp_path / "checkpoint.pth")
