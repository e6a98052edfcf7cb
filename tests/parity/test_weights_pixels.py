"""Whatever file states how images are prepared is heard, in one order; the peer's pixels are the right ones."""

import argparse
import json
import sys
from collections import OrderedDict
from pathlib import Path, PosixPath
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from test_weights_in import hf, hf_model, timm_vit

import vitral
from peers import timm, torchvision, transformers
from tiny import redraw
from vitral.base.errors import StoreError
from vitral.data.preprocess import batch_of
from vitral.weights.reading.pickled_file import DICTIONARIES

WHITE = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
SQUARE = dict(image_processor_type="ViTImageProcessor", size={"height": 24, "width": 24}, **WHITE)


@pytest.fixture(scope="module")
def photo():
    """Smooth, so that half a pixel makes little difference."""
    y, x = np.mgrid[0:180, 0:270]
    waves = [np.sin(x / 53 + phase) + np.cos(y / 41 - phase) for phase in (0.0, 1.0, 2.0)]
    return np.stack([(127 + 60 * wave).clip(0, 255).astype(np.uint8) for wave in waves], axis=2)


def saved_vit(folder, kind="Dinov2", **changes):
    """A classifier for images of 56 x 56, as transformers saves it."""
    changes = dict(image_size=56, num_labels=3) | (dict(mlp_ratio=2) if kind == "Dinov2" else {}) | changes
    model = hf_model(f"{kind}ForImageClassification", hf(kind, **changes))
    model.save_pretrained(folder)
    return model.eval()


PROCESSORS = {
    "as of version 4": {"preprocessor_config.json": SQUARE},
    "nested, as of version 5": {"processor_config.json": {"image_processor": SQUARE, "processor_class": "X"}},
    "both, the nested one first": {
        "processor_config.json": {"image_processor": SQUARE},
        "preprocessor_config.json": SQUARE | dict(size={"height": 40, "width": 40}),
    },
    "beside a processor without images": {
        "processor_config.json": {"processor_class": "X"},
        "preprocessor_config.json": SQUARE,
    },
    "a feature extractor": {
        "preprocessor_config.json": dict(feature_extractor_type="ViTFeatureExtractor", size=24, resample=2, **WHITE)
    },
    "fast": {"preprocessor_config.json": SQUARE | dict(image_processor_type="ViTImageProcessorFast")},
    "no class named": {"preprocessor_config.json": dict(size=32, crop_size=24, do_center_crop=True, **WHITE)},
    "a class's own defaults": {
        "preprocessor_config.json": dict(
            image_processor_type="BitImageProcessor", size={"shortest_edge": 32}, crop_size={"height": 24, "width": 24}
        )
    },
    "DINOv3's defaults": {
        "preprocessor_config.json": dict(
            image_processor_type="DINOv3ViTImageProcessorFast", size={"height": 24, "width": 24}
        )
    },
    "no normalising": {"preprocessor_config.json": SQUARE | dict(do_normalize=False)},
    "no rescaling": {
        "preprocessor_config.json": SQUARE | dict(do_rescale=False, image_mean=[120.0] * 3, image_std=[60.0] * 3)
    },
    "two numbers": {"preprocessor_config.json": SQUARE | dict(size=[24, 32])},
    "the default crop": {
        "preprocessor_config.json": dict(image_processor_type="CLIPImageProcessor", size={"shortest_edge": 256})
    },
}


@pytest.mark.parametrize("files", PROCESSORS.values(), ids=PROCESSORS)
@torch.no_grad()
def test_pixels_and_sizes_are_those_of_transformers(files, photo, tmp_path):
    peer = saved_vit(tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    theirs = processor(Image.fromarray(photo), return_tensors="pt")["pixel_values"]
    model = vitral.load(tmp_path)
    mine = batch_of([photo], model.preprocessing)
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().mean() < 4 / 255 * (theirs.amax() - theirs.amin())
    expected = peer(theirs).logits
    torch.testing.assert_close(model(theirs), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert any("config.json states 56 x 56" in line for line in model.provenance["assumed"])


def test_two_files_that_disagree_are_both_quoted(tmp_path):
    saved_vit(tmp_path)
    for name, content in PROCESSORS["both, the nested one first"].items():
        (tmp_path / name).write_text(json.dumps(content))
    said = vitral.load(tmp_path).record.notes
    for other in ("preprocessor_config.json states 40 x 40", "config.json states 56 x 56"):
        assert f"  assumed: size 24 x 24, as processor_config.json states; {other}" in said


def test_an_option_comes_before_every_file(tmp_path):
    saved_vit(tmp_path, "ViT")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SQUARE))
    model = vitral.load(tmp_path, img_size=40, mean=(0.1, 0.2, 0.3), interpolation="nearest", crop=0.9)
    own = model.preprocessing
    assert (own.size, own.mean, own.interpolation, own.crop) == ((40, 40), (0.1, 0.2, 0.3), "nearest", 0.9)
    assert own.std == (0.229, 0.224, 0.225)


def bare_timm(path, size=(32, 32), **beside):
    torch.save({"state_dict": timm_vit(size, embed_dim=192, num_heads=3, depth=12).state_dict(), **beside}, path)
    return path


OPTIONS = dict(mean=None, std=None, crop_pct=None, interpolation="", img_size=None, input_size=None)
# What timm's training script was given, over the options that it saves with every checkpoint.
GIVEN = {
    "mean, std and crop": dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], crop_pct=0.95),
    "interpolation": dict(mean=[0.1, 0.2, 0.3], std=[0.3, 0.2, 0.1], crop_pct=0.9, interpolation="bilinear"),
    "crop mode": dict(mean=[0.1, 0.2, 0.3], std=[0.3, 0.2, 0.1], crop_pct=0.9, crop_mode="squash"),
    "one value for all channels": dict(mean=[0.4], std=[0.2], crop_pct=1.0),
    "image size": dict(mean=[0.4] * 3, std=[0.2] * 3, crop_pct=1.0, img_size=32),
    "input size": dict(mean=[0.4] * 3, std=[0.2] * 3, crop_pct=1.0, input_size=[3, 32, 32]),
    "another size than the positions'": dict(mean=[0.4] * 3, std=[0.2] * 3, crop_pct=1.0, img_size=48),
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_the_arguments_of_timms_training_script(given, tmp_path):
    options = OPTIONS | given
    expected = timm.data.resolve_data_config(options, pretrained_cfg=dict(input_size=(3, 32, 32)))
    path = bare_timm(tmp_path / "t.pth", arch="vit_tiny_patch8_32", args=argparse.Namespace(**options), epoch=3)
    model = vitral.load(path)
    own = model.preprocessing
    assert model.provenance["source"] == "timm" and own.size == expected["input_size"][1:]
    assert own.mean == pytest.approx(expected["mean"]) and own.std == pytest.approx(expected["std"])
    names = (own.crop, own.crop_mode, own.interpolation)
    assert names == tuple(expected[name] for name in ("crop_pct", "crop_mode", "interpolation"))


PLACES = {
    "Lightning": lambda own: {"hyper_parameters": {"lr": 0.1, **own}},
    "Lightning, deeper": lambda own: {"hyper_parameters": {"data": {"transform": own}}},
    "a namespace": lambda own: {"args": argparse.Namespace(**own)},
    "paths and numbers of NumPy": lambda own: {
        "args": argparse.Namespace(**own, output=PosixPath("out"), best=np.float64(0.5), rows=np.zeros(2))
    },
    "a config": lambda own: {"config": OrderedDict(own)},
    "beside the weights": lambda own: own,
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_arguments_are_found_wherever_a_script_saved_them(place, tmp_path):
    stated = dict(mean=[0.1, 0.2, 0.3], std=[0.3, 0.2, 0.1], crop_pct=0.9, interpolation="bilinear", img_size=32)
    own = vitral.load(bare_timm(tmp_path / "t.pth", **place(stated))).preprocessing
    assert (own.mean, own.std, own.crop) == ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1), 0.9)
    assert (own.size, own.interpolation) == ((32, 32), "bilinear")


def test_the_arguments_of_torchvisions_training_script(tmp_path):
    peer = redraw(torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=5))
    arguments = argparse.Namespace(val_resize_size=40, val_crop_size=32, train_crop_size=24, interpolation="bicubic")
    torch.save({"model": peer.state_dict(), "args": arguments}, tmp_path / "v.pth")
    own = vitral.load(tmp_path / "v.pth", num_heads=4).preprocessing
    assert (own.size, own.crop, own.interpolation) == ((32, 32), 0.8, "bicubic")


@pytest.mark.parametrize("name", DICTIONARIES)
def test_dictionaries_of_libraries_that_are_not_installed(name, tmp_path, monkeypatch):
    module, _, word = name.rpartition(".")
    theirs = type(word, (dict,), {"__module__": module})
    for part in [module[:end] for end, letter in enumerate(f"{module}.") if letter == "."]:
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    monkeypatch.setattr(sys.modules[module], word, theirs, raising=False)
    inner = theirs(MEAN=[0.1, 0.2, 0.3], STD=[0.3, 0.2, 0.1], IMG_SIZE=32)
    inner.frozen = True
    path = bare_timm(tmp_path / "t.pth", config=theirs(DATA=inner))
    monkeypatch.undo()
    own = vitral.load(path, source="timm").preprocessing
    assert (own.mean, own.std, own.size) == ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1), (32, 32))


@torch.no_grad()
def test_transformers_around_a_model_of_timms(tmp_path):
    arguments = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4)
    config = transformers.TimmWrapperConfig(architecture="vit_tiny_patch16_224", num_labels=3, model_args=arguments)
    peer = redraw(transformers.TimmWrapperForImageClassification(config))
    peer.save_pretrained(tmp_path)
    model, images = vitral.load(tmp_path), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), peer(images).logits)
    assert model.provenance["source"] == "timm"


def test_an_argument_that_may_be_of_something_else_is_reported_and_not_used(tmp_path):
    stated = dict(head=dict(input_size=192, mean=[0.1] * 3, std=[0.2] * 3))
    model = vitral.load(bare_timm(tmp_path / "t.pth", hyper_parameters=stated), source="timm")
    assert model.preprocessing.size == (32, 32) and model.preprocessing.mean == (0.1,) * 3
    said = (
        "hyper_parameters.head: size 192 x 192 does not fit 17 positions and is not used; specify img_size=192x192 if"
    )
    assert any(said in line for line in model.provenance["assumed"])


def test_what_no_argument_states_is_assumed_aloud(tmp_path):
    path = bare_timm(tmp_path / "t.pth", hyper_parameters=dict(mean=[0.1, 0.2, 0.3], std=[0.3, 0.2, 0.1]))
    with pytest.raises(StoreError, match="matches several formats"):
        vitral.load(path)
    model = vitral.load(path, source="deit")
    assert model.preprocessing.mean == (0.1, 0.2, 0.3) and model.preprocessing.crop == 0.875
    values = "crop 0.875, crop_mode center, interpolation bicubic"
    line = f"preprocessing that no file or option states: {values}, as in DeiT's evaluation"
    assert line in model.provenance["assumed"]


def test_statistics_of_whole_pixels(tmp_path):
    stated = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], crop_pct=1.0)
    model = vitral.load(bare_timm(tmp_path / "t.pth", cfg=stated), source="timm")
    assert model.preprocessing.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-4)
    assert model.preprocessing.std == pytest.approx((0.229, 0.224, 0.225), abs=1e-4)
    assert any("pixels from 0 to 255" in line for line in model.provenance["assumed"])


FILES = {
    "open_clip": (
        "open_clip_config.json",
        {
            "preprocess_cfg": dict(
                size=32, resize_mode="squash", interpolation="bilinear", mean=[0.1] * 3, std=[0.2] * 3
            )
        },
        ("squash", "bilinear", 1.0),
    ),
    "a plain file": ("preprocess.json", dict(size=[32, 32], mean=[0.1] * 3, std=[0.2] * 3), ("center", "bicubic", 1.0)),
    "of transformers": (
        "preprocessor_config.json",
        dict(image_mean=[0.1] * 3, image_std=[0.2] * 3, size=32, resample=3),
        ("squash", "bicubic", 1.0),
    ),
}


@pytest.mark.parametrize(("name", "content", "expected"), FILES.values(), ids=FILES)
def test_a_processor_file_beside_a_bare_file(name, content, expected, tmp_path):
    (tmp_path / name).write_text(json.dumps(content))
    own = vitral.load(f"{bare_timm(tmp_path / 't.pth')},source=timm").preprocessing
    assert (own.crop_mode, own.interpolation, own.crop) == expected
    assert (own.mean, own.std, own.size) == ((0.1,) * 3, (0.2,) * 3, (32, 32))


def timms_folder(folder, **pretrained):
    save_file(redraw(timm_vit((32, 32))).state_dict(), folder / "model.safetensors")
    stated = dict(input_size=[3, 32, 32], mean=[0.1] * 3, std=[0.2] * 3, crop_pct=0.9, interpolation="bilinear")
    return {"architecture": "vit_base_patch16_224", "num_classes": 5}, stated | pretrained


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "at the top, as until 2022"])
def test_timms_config(nested, tmp_path):
    config, pretrained = timms_folder(tmp_path)
    content = config | ({"pretrained_cfg": pretrained} if nested else pretrained)
    (tmp_path / "config.json").write_text(json.dumps(content))
    model = vitral.load(tmp_path, num_heads=4)
    assert model.provenance["source"] == "timm"
    assert (model.preprocessing.crop, model.preprocessing.interpolation) == (0.9, "bilinear")
    assert (model.preprocessing.mean, model.preprocessing.size) == ((0.1,) * 3, (32, 32))
    (line,) = (line for line in model.provenance["assumed"] if "preprocessing" in line)
    assert line == "preprocessing that no file or option states: crop_mode center, as timm's configs by default"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(interpolation="lanczos"), "interpolation='lanczos'; supported: nearest, bilinear, bicubic"),
        (dict(crop_pct=1.2), "crop=1.2, which pads them"),
        (dict(crop_mode="border"), "crop_mode='border'; supported: center, squash"),
    ],
    ids=str,
)
def test_what_preprocessing_cannot_express_is_refused_unless_an_option_replaces_it(changes, message, tmp_path):
    config, pretrained = timms_folder(tmp_path, **changes)
    (tmp_path / "config.json").write_text(json.dumps(config | {"pretrained_cfg": pretrained}))
    with pytest.raises(StoreError, match=message):
        vitral.load(tmp_path, num_heads=4)
    option = dict(interpolation="bicubic", crop=1.0, crop_mode="center")
    assert vitral.load(tmp_path, num_heads=4, **option).preprocessing.crop == 1


@pytest.mark.parametrize("content", ["{", "[1]", '{"image_processor": {"size": "large"}}'])
def test_a_processor_file_that_cannot_be_read(content, tmp_path):
    saved_vit(tmp_path)
    Path(tmp_path / "processor_config.json").write_text(content)
    with pytest.raises(StoreError, match=r"processor_config\.json (cannot be read|holds a list)|has size=large"):
        vitral.load(tmp_path)
