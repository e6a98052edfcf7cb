"""One function loads every kind of model that a MODEL can name, and says how it read it."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import save, save_file
from test_old_files import EXPECTED, FILES

import vitral
from tiny import tiny_vit
from vitral.base.errors import ConfigError, StoreError, UnknownName
from vitral.base.preprocessing import Preprocessing
from vitral.base.provenance import installed_version
from vitral.base.record import ModelRecord, attach_record
from vitral.weights.convert import write
from vitral.weights.spec import CheckpointSpec, parse_checkpoint_spec

CHECKPOINT = FILES / "default/checkpoints/step-000002"
OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, img_size):
        super().__init__()
        self.layer = nn.Linear(3, num_classes)
        self.img_size = img_size

    def forward(self, images):
        return self.layer(images.mean((2, 3)))

class Named(Net):
    class_names = ["cat", "dog"]

    def __init__(self):
        super().__init__(2, 16)

class Features(Net):
    def forward(self, images):
        return images
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("timm:vit_tiny_patch16_224", CheckpointSpec("timm", "vit_tiny_patch16_224")),
        ("timm:x,pretrained=false", CheckpointSpec("timm", "x", {"pretrained": False})),
        ("hf:a/b@main,num_heads=3", CheckpointSpec("hub", "hf:a/b@main", {"num_heads": 3})),
        ("net.py:Net", CheckpointSpec("code", "net.py:Net")),
        ("runs/none", CheckpointSpec("run", "runs/none")),
        (FILES / "swin", CheckpointSpec("run", str(FILES / "swin"))),
        (FILES / "swin" / "model.safetensors", CheckpointSpec("run", str(FILES / "swin" / "model.safetensors"))),
        (FILES / "expected.safetensors", CheckpointSpec("published", str(FILES / "expected.safetensors"))),
        (CHECKPOINT, CheckpointSpec("training checkpoint", str(CHECKPOINT))),
    ],
    ids=str,
)
def test_a_spec_says_what_kind_of_model_it_names(spec, expected):
    assert parse_checkpoint_spec(spec) == expected


@torch.no_grad()
def test_a_training_checkpoint_has_its_own_weights_and_the_record_of_its_run():
    model = vitral.load(CHECKPOINT)
    assert (model(EXPECTED["images"]) - EXPECTED["checkpoint"]).abs().max() < 1e-6
    assert model.record == vitral.load(FILES / "default").record


def test_a_training_checkpoint_that_is_damaged(tmp_path):
    shutil.copytree(FILES / "default", tmp_path / "run")
    checkpoint = tmp_path / "run/checkpoints/step-000002"
    for content in (b"nothing", save({"a": torch.zeros(2)})):
        (checkpoint / "weights.safetensors").write_bytes(content)
        with pytest.raises(StoreError, match=r"weights\.safetensors is damaged or belongs to another model"):
            vitral.load(checkpoint)


def test_the_readers_own_module_is_loaded_as_its_constructor_makes_it(own):
    model = vitral.load(f"{own}:Net")
    assert not model.training and len(model.classes) == 1000 and model.preprocessing == Preprocessing((224, 224))
    assert model.record.notes == (
        f"{own}:Net is used as constructed; it is untrained unless its constructor loads weights.",
    )
    model = vitral.load(f"{own}:Net", num_classes=3, img_size=(8, 12))
    assert model.classes == ("class 0", "class 1", "class 2") and model.preprocessing.size == (8, 12)
    assert vitral.load(f"{own}:Named").classes == ("cat", "dog")
    assert vitral.load(f"{own}:Features").classes == ()


def test_what_was_assumed_is_in_the_record(tmp_path):
    save_file(tiny_vit(img_size=16, patch_size=4).state_dict(), tmp_path / "bare.safetensors")
    record = vitral.load(f"{tmp_path}/bare.safetensors,source=deit,num_heads=4").record
    assert record.notes[0] == "read as deit" and record.provenance["source"] == "deit"
    assert record.notes[1:] == tuple(f"  assumed: {line}" for line in record.provenance["assumed"])
    assert (record.grid, record.num_prefix_tokens) == ((4, 4), 1)


def test_a_run_has_no_notes_of_the_checkpoint_that_it_started_from():
    assert vitral.load(FILES / "swin").record.notes == ()


@pytest.fixture
def saved_by_transformers(tmp_path):
    import peers  # makes torchvision, and so transformers' models, importable

    transformers = peers.transformers
    config = transformers.ViTConfig(**peers.HF, hidden_act="relu", id2label={0: "cat", 1: "dog"})
    peer = transformers.ViTForImageClassification(config).eval()
    peer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved", peer


@torch.no_grad()
def test_what_our_sources_refuse_transformers_reads_and_the_record_says_so(saved_by_transformers):
    folder, peer = saved_by_transformers
    model = vitral.load(folder)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(model(images).logits, peer(images).logits)
    assert model.classes == ("cat", "dog") and model.record.provenance["source"] == "transformers"
    reader, pixels = model.record.provenance["assumed"]
    assert reader.startswith("read by transformers, since Vitral's own reader refuses: config.json has layer_norm_eps")
    assert pixels == "preprocessing: mean and std 0.5, bicubic: there is no preprocessor_config.json"
    assert model.record.notes == ("read as transformers", f"  assumed: {reader}", f"  assumed: {pixels}")
    assert model.record.grid is None and model.record.num_prefix_tokens is None


def test_tensors_that_transformers_leaves_out_are_listed(saved_by_transformers):
    folder, peer = saved_by_transformers
    more = peer.state_dict() | {"extra.weight": torch.zeros(2)}
    save_file(more, folder / "model.safetensors", metadata={"format": "pt"})
    model = vitral.load(folder)
    assert model.record.provenance["dropped"] == {"extra.weight": "ViTForImageClassification has no such tensor"}


def test_options_are_for_our_own_reader(saved_by_transformers):
    with pytest.raises(ConfigError, match="hidden_act='relu'"):
        vitral.load(saved_by_transformers[0], num_heads=3)


@pytest.mark.parametrize(
    ("spec", "options", "error", "message"),
    [
        (
            "vit_tiny_patch16_224",
            {},
            UnknownName,
            r"architecture without weights\. To build it untrained: vitral.create",
        ),
        ("nowhere", {}, UnknownName, "There is no run 'nowhere'"),
        ("nowhere.pth", {}, UnknownName, r"There is no file nowhere\.pth"),
        (FILES / "expected.safetensors", dict(pretrained=False), ConfigError, "pretrained applies to timm:NAME only"),
        (
            FILES / "expected.safetensors",
            dict(code="a.py:B"),
            ConfigError,
            "--code applies only to runs of your own module",
        ),
        (FILES / "swin", dict(code="a.py:B"), StoreError, "--code a.py:B does not apply"),
        (FILES / "swin", dict(num_classes=3), ConfigError, "num_classes cannot be changed"),
    ],
    ids=str,
)
def test_what_cannot_be_loaded(spec, options, error, message):
    with pytest.raises(error, match=message):
        vitral.load(spec, **options)


def test_the_same_specs_are_created_untrained(own):
    assert vitral.create("vit_nano_patch8_48", num_classes=3).config["num_classes"] == 3
    assert vitral.create(f"{own}:Net", num_classes=3, img_size=8).img_size == 8


@pytest.mark.parametrize(
    ("spec", "options", "error", "message"),
    [
        ("vit_tinny_patch16_224", {}, UnknownName, r"Did you mean 'vit_tiny_patch16_224'\?"),
        ("timm:vit_tiny_patch16_224", {}, ConfigError, "has weights.*vitral.load"),
        (str(FILES / "swin"), {}, ConfigError, "has weights.*vitral.load"),
        (str(FILES / "own/net.py:Net"), dict(depth=3), ConfigError, "depth cannot be passed"),
    ],
    ids=str,
)
def test_what_cannot_be_created(spec, options, error, message):
    with pytest.raises(error, match=message):
        vitral.create(spec, **options)


# Libraries that are there but cannot be imported, as files in a folder; and what the message must say.
BROKEN = {
    "missing": (None, "needs timm, which is not installed. Install it: pip install -c constraints.txt timm."),
    "needs another": (
        "import colour_spaces.rgb",
        "timm, which is installed, but it needs colour_spaces, which is not installed. Install that: pip install -c "
        "constraints.txt colour_spaces.",
    ),
    "torchvision of another build": (
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "timm, which is installed but cannot be imported: RuntimeError: operator torchvision::nms does not exist. "
        f"The installed torchvision was not built for the installed PyTorch ({installed_version('torch')})",
    ),
    "a part that is imported late": (
        "try:\n    raise RuntimeError('libcudart.so.13 is missing')\nexcept RuntimeError as error:\n"
        "    raise ModuleNotFoundError('Could not import module') from error",
        "timm, which is installed but cannot be imported: RuntimeError: libcudart.so.13 is missing. The installed "
        "torchvision was not built for the installed PyTorch",
    ),
    "its own mistake": (
        "raise ValueError('bad table')",
        "timm, which is installed but cannot be imported: ValueError: bad table. Reinstall it: pip install "
        "--force-reinstall -c constraints.txt timm.",
    ),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_a_library_that_cannot_be_imported_is_said_to_be_just_that(content, message, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    if content is None:
        monkeypatch.setitem(sys.modules, "timm", None)
    else:
        (tmp_path / "timm.py").write_text(content)
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as raised:
        vitral.load("timm:vit_tiny_patch16_224,pretrained=false")
    assert message in str(raised.value)


def test_a_folder_that_transformers_cannot_read_either_gives_both_reasons(saved_by_transformers, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"needs transformers, which is not installed.*own reader: config\.json has"):
        vitral.load(saved_by_transformers[0])


def test_a_model_of_timm_has_a_record(monkeypatch):
    from benchmarks.peers import timm

    monkeypatch.setitem(sys.modules, "timm", timm)
    record = vitral.load("timm:test_vit,pretrained=false").record
    assert record.grid == (10, 10) and record.num_prefix_tokens == 1 and len(record.classes) == 1000
    assert record.notes == ("read as timm's own test_vit", "  assumed: random weights: the model is untrained")
    assert vitral.load("timm:test_resnet,pretrained=false").record.grid is None


def test_only_sources_that_may_match_are_asked(tmp_path, monkeypatch):
    from vitral.base.lookup import find, names

    asked = []
    model = tiny_vit(img_size=16, patch_size=4)
    write(attach_record(model, ModelRecord(tuple("abcde"), model.preprocessing)), tmp_path / "timm", "timm")
    for name in names("weights.sources"):
        source = find("weights.sources", name, "source")
        recognises = source.recognises
        monkeypatch.setitem(
            source.__dict__,
            "recognises",
            lambda checkpoint, name=name, own=recognises: asked.append(name) or own(checkpoint),
        )
    assert vitral.load(tmp_path / "timm").record.provenance["source"] == "timm"
    assert asked == ["timm"]
    assert json.loads((tmp_path / "timm/config.json").read_text())["label_names"] == list("abcde")
