"""Images are prepared as transformers and timm prepare them, for what their cards say; or the card is refused."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import peers
from peers import timm, transformers
from tiny import tiny_vit
from vitral.base.errors import StoreError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import batch_of
from vitral.weights.convert import write
from vitral.weights.image_processor import preprocessing_from_processor
from vitral.weights.peers import load_transformers, preprocessing_from_timm

CARDS = {
    "ViT": ("ViTImageProcessor", dict(size={"height": 40, "width": 40})),
    "ViT, not square": ("ViTImageProcessor", dict(size={"height": 48, "width": 32})),
    "ViT, pixels as they are": ("ViTImageProcessor", dict(size={"height": 40, "width": 40}, do_normalize=False)),
    "ViT, not rescaled": (
        "ViTImageProcessor",
        dict(do_rescale=False, image_mean=[120, 110, 100], image_std=[60, 61, 62], size={"height": 40, "width": 40}),
    ),
    "ViT, rescaled to -1..1": ("ViTImageProcessor", dict(rescale_factor=1 / 127.5, size={"height": 40, "width": 40})),
    "DeiT": ("DeiTImageProcessor", dict(size={"height": 48, "width": 48}, crop_size={"height": 40, "width": 40})),
    "CLIP": ("CLIPImageProcessor", dict(size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40})),
    "DINOv2": ("BitImageProcessor", dict(size={"shortest_edge": 48}, crop_size={"height": 40, "width": 40})),
    "ConvNeXt": ("ConvNextImageProcessor", dict(size={"shortest_edge": 40}, crop_pct=0.875)),
    "ConvNeXt, large": ("ConvNextImageProcessor", dict(size={"shortest_edge": 384})),
}


@pytest.fixture(scope="module")
def photo():
    """Smooth, so that half a pixel makes little difference, and of another shape than any model's images."""
    y, x = np.mgrid[0:96, 0:160]
    waves = [np.sin(x / 23 + phase) + np.cos(y / 17 - phase) for phase in (0.0, 1.0, 2.0)]
    return np.stack([(127 + 60 * wave).clip(0, 255).astype(np.uint8) for wave in waves], axis=2)


@pytest.mark.parametrize("name", CARDS)
def test_images_are_as_transformers_prepares_them(name, photo, tmp_path):
    kind, settings = CARDS[name]
    processor = getattr(transformers, kind)(**settings)
    processor.save_pretrained(tmp_path)
    said = json.loads((tmp_path / "preprocessor_config.json").read_text())
    theirs = processor(Image.fromarray(photo), return_tensors="pt")["pixel_values"]
    check_same(photo, preprocessing_from_processor(said, None), theirs)


def check_same(photo, preprocessing, theirs):
    """Up to the whole pixels at which they cut; the other `crop_mode` is far from it."""
    mode = {"center": "squash", "squash": "center"}[preprocessing.crop_mode]
    other = dataclasses.replace(preprocessing, crop_mode=mode)
    step = (theirs.amax() - theirs.amin()) / 255  # of a pixel's values
    assert (batch_of([photo], preprocessing) - theirs).abs().mean() < 4 * step
    assert (batch_of([photo], other) - theirs).abs().mean() > 8 * step


def test_what_one_number_means_depends_on_the_kind():
    old = dict(feature_extractor_type="DeiTFeatureExtractor", size=48, do_center_crop=True, crop_size=40)
    found = preprocessing_from_processor(old, None)
    assert (found.size, found.crop, found.crop_mode) == ((40, 40), 40 / 48, "squash")
    found = preprocessing_from_processor(old | dict(feature_extractor_type="CLIPFeatureExtractor"), None)
    assert (found.size, found.crop, found.crop_mode) == ((40, 40), 40 / 48, "center")
    assert preprocessing_from_processor({}, (24, 32)).size == (24, 32)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (dict(image_processor_type="LevitImageProcessor"), "image_processor_type=Levit"),
        (dict(do_flip_channel_order=True), "do_flip_channel_order=True"),
        (dict(rescale_offset=True), "rescale_offset=True"),
        (dict(do_pad=True), "do_pad=True"),
        (dict(do_resize=False), "do_resize=False"),
        (dict(resample=1), "resample=1, .* Supported: 0, 2, 3"),
        (dict(size={"longest_edge": 40}), "size={'longest_edge': 40}"),
        (dict(size={"shortest_edge": 40}), "do_center_crop=False"),
        (dict(size=40, do_center_crop=True, crop_size=48), "crop_size=48"),
        (dict(size=40, do_center_crop=True, crop_size={"height": 20, "width": 30}), "crop_size="),
        (dict(image_mean=[0.5, 0.5]), "image_mean=.*1 or 3 numbers"),
    ],
    ids=str,
)
def test_what_cannot_be_done_to_images_is_refused(said, message):
    with pytest.raises(StoreError, match=f"has {message}"):
        preprocessing_from_processor(dict(size=40) | said, (40, 40))


GIVEN = dict(input_size=(3, 40, 40), crop_pct=0.9, crop_mode="center", interpolation="bicubic", mean=(0.5,) * 3)


@pytest.mark.parametrize("mode", ["center", "squash"])
def test_images_are_as_timm_prepares_them(mode, photo):
    given = GIVEN | dict(crop_mode=mode, std=(0.5,) * 3)
    theirs = timm.data.create_transform(**given)(Image.fromarray(photo))[None]
    check_same(photo, preprocessing_from_timm("a model", given), theirs)


@pytest.mark.parametrize(
    "wrong", [dict(crop_mode="border"), dict(crop_pct=1.1), dict(interpolation="lanczos")], ids=str
)
def test_what_timm_does_and_vitral_does_not_is_refused(wrong):
    with pytest.raises(StoreError, match=f"timm prepares the images of a model with {next(iter(wrong))}="):
        preprocessing_from_timm("a model", GIVEN | dict(std=(0.5,) * 3) | wrong)


@pytest.mark.parametrize(
    ("model", "config", "settings"), [("ViTModel", "ViTConfig", peers.HF), ("Dinov2Model", "Dinov2Config", peers.DINO)]
)
def test_a_model_without_a_classifier_is_not_given_one(model, config, settings, tmp_path):
    getattr(transformers, model)(getattr(transformers, config)(**settings)).save_pretrained(tmp_path)
    message = rf"no weights for classifier.bias, classifier.weight; .* saved from a {model}:"
    with pytest.raises(StoreError, match=message):
        load_transformers(tmp_path, "not in a known format")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_card_that_cannot_be_read(text, tmp_path):
    transformers.ViTForImageClassification(transformers.ViTConfig(**peers.HF)).save_pretrained(tmp_path)
    assert load_transformers(tmp_path, "not in a known format").preprocessing == Preprocessing((32, 32))
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(StoreError, match=r"preprocessor_config\.json (cannot be read|holds a list)"):
        load_transformers(tmp_path, "not in a known format")


WRITTEN = {
    "whole shorter side": Preprocessing((40, 40)),
    "middle, bilinear": Preprocessing((40, 40), 40 / 48, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "squashed": Preprocessing((40, 40), crop_mode="squash"),
    "not square, squashed": Preprocessing((48, 32), crop_mode="squash"),
}


def notes_of_writing(preprocessing, folder, format):
    model = tiny_vit(img_size=preprocessing.size, patch_size=8)
    return write(attach_record(model, ModelRecord(tuple("abcde"), preprocessing)), folder, format)[1]


@pytest.mark.parametrize("preprocessing", WRITTEN.values(), ids=WRITTEN)
def test_transformers_prepares_images_as_the_card_that_is_written_says(preprocessing, photo, tmp_path):
    notes = notes_of_writing(preprocessing, tmp_path / "hf", "hf")
    assert not any("pixels" in line for line in notes)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "hf")
    check_same(photo, preprocessing, processor(Image.fromarray(photo), return_tensors="pt")["pixel_values"])


def test_timms_config_says_how_images_are_prepared(photo, tmp_path):
    preprocessing = WRITTEN["middle, bilinear"]
    assert notes_of_writing(preprocessing, tmp_path / "t", "timm") == []
    built = timm.create_model(f"local-dir:{tmp_path / 't'}", pretrained=True)
    assert preprocessing_from_timm("local", timm.data.resolve_model_data_config(built)) == preprocessing


def test_what_a_format_does_not_say_of_pixels_is_told(tmp_path):
    notes = notes_of_writing(Preprocessing((40, 40), crop=0.5), tmp_path / "tv", "torchvision")
    assert any("torchvision files do not state the preprocessing" in line and "crop 0.5" in line for line in notes)
