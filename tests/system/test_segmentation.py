"""Segmentation as a user runs it: scenes and folders of masks through every verb; what is wrong is said."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from safetensors.torch import save_file
from test_resume import assert_same, reached

from peers import timm  # it makes torchvision, and so timm, importable
from shell import Terminal, Trained, tree
from vitral import load
from vitral.base.errors import UsageError
from vitral.data.spec import find_data

SCENES = "scenes:n=48,held_out=20,size=32"
QUICKLY = ("--model", "resnet_nano_48", "--img-size", 16, "--batch-size", 4)

OWN = '''
import torch
from torch import nn


class Masks(nn.Module):
    """One class per pixel, by two convolutions."""

    def __init__(self, num_classes):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Conv2d(8, num_classes, 1)

    def forward(self, images):
        return self.head(self.first(images).relu())


class Attending(Masks):
    """With attention over patches of 8 pixels."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.qkv = nn.Linear(8, 24)

    def forward(self, images):
        x = self.patches(images)
        q, k, v = self.qkv(x.flatten(2).mT)[:, None].chunk(3, dim=-1)
        y = nn.functional.scaled_dot_product_attention(q, k, v)[:, 0].mT.reshape(x.shape)
        return self.head(self.first(images).relu() + nn.functional.interpolate(y, scale_factor=8))


class Quarter(Masks):
    def forward(self, images):
        return super().forward(images)[:, :, ::4, ::4]


class LikeHuggingFace(Quarter):
    def forward(self, images):
        return {"logits": super().forward(images), "loss": torch.zeros(())}


class Last(Masks):
    def forward(self, images):
        return super().forward(images).movedim(1, -1)


class PerImage(Masks):
    def forward(self, images):
        return super().forward(images).mean(dim=(2, 3))
'''


def pixels_of(path):
    with Image.open(path) as image:
        return np.array(image)


def paint(home, scenes, order=None, names=None, count=16, border=False):
    """A folder of the first scenes; `order` gives each class's index there."""
    classes = list(scenes.classes)
    order = list(range(len(classes))) if order is None else order
    split = scenes.train
    for kind in ("images", "masks"):
        (home / kind).mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(split.pixels[:count], split.labels[:count])):
        mask = np.array(order, np.uint8)[mask]
        if border:
            mask[0] = 255
        Image.fromarray(image).save(home / "images" / f"{number}.png")
        Image.fromarray(mask).save(home / "masks" / f"{number}.png")
    (home / "classes.txt").write_text(
        "\n".join(names or [classes[order.index(place)] for place in range(len(classes))])
    )
    return home


@pytest.fixture(scope="module")
def scenes():
    return find_data("scenes:n=48,held_out=20,size=16")


@pytest.fixture(scope="module")
def run(isolated, tmp_path_factory):
    """A ViT with a light decoder on a few small scenes."""
    folder = tmp_path_factory.mktemp("segmenter")
    words = ("train", "--data", SCENES, "--model", "vit_nano_patch4_32", "--epochs", 2, "--batch-size", 16, "--json")
    answer = Terminal(isolated, folder)(*words, "--out", "run").done()
    return Trained(folder / "run", answer)


@pytest.fixture
def photo(tmp_path):
    """A wide photo of a scene."""
    path = tmp_path / "photo.jpg"
    Image.fromarray(find_data(SCENES).test.pixels[0]).resize((60, 40)).save(path)
    return path


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)


def test_a_run_has_masks_figures_and_a_report(run):
    answer = run.answer.json
    assert answer["task"] == "segmentation" and answer["test_accuracy"] is None
    figures = answer["figures"]
    assert np.array(figures["confusion"]).sum() == 20 * 32 * 32 and len(figures["per_class"]) == 9
    assert "without background (95% interval" in answer["summary"] and "film" not in run.answer.messages
    assert run.card["task"] == "segmentation" and run.card["architecture"]["vit"]["family"] == "segmenter"
    assert [set(record) for record in run.metrics if "best" in record] == [{"step", "loss", "mIoU", "best"}] * 6
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    for words in ("How good each class is", "Typical masks", "The worst masks", "Intersection over union"):
        assert words in page
    assert re.search(r"mIoU from [0-9.]+ to [0-9.]+\.", page)


def test_evaluating_gives_the_figures_of_the_run_again(vitral, run, tmp_path):
    found = vitral("eval", run.folder, "--json").done()
    words = vitral("eval", run.folder).done().printed
    figures = found.json
    assert figures["mIoU"] == pytest.approx(run.answer.json["figures"]["mIoU"], rel=1e-5)
    assert figures["confusion"] == run.answer.json["figures"]["confusion"]
    assert "mean IoU" in words and "always background" in words and words.count("boundary F") == 10


def test_a_folder_with_the_classes_in_another_order_has_the_same_figures(vitral, scenes, tmp_path):
    paint(tmp_path / "one", scenes)
    paint(tmp_path / "other", scenes, order=[8, 0, 2, 1, 4, 3, 5, 7, 6])
    vitral("train", "--data", "one", *QUICKLY, "--epochs", 2, "--out", "run").done()
    one, other = (vitral("eval", "run", "--data", name, "--json").done().json for name in ("one", "other"))
    assert one["mIoU"] == other["mIoU"] and one["confusion"] == other["confusion"]
    paint(tmp_path / "fewer", scenes, names=["background", *"abcdefgh"])
    refused = vitral("eval", "run", "--data", "fewer")
    refused.failed(1, "fewer has the classes", "Specify data with the model's classes")


def test_masks_are_predicted_in_the_images_size(vitral, run, photo, tmp_path):
    answer = vitral("predict", run.folder, photo, "--out", "masks", "--json").done()
    assert tree(tmp_path / "masks") == ["photo.mask.png", "photo.overlay.png"]
    mask = pixels_of(tmp_path / "masks" / "photo.mask.png")
    assert mask.shape == (40, 60) and (mask[:, :10] == 255).all() and (mask[:, 10:50] < 9).all()
    assert "sees only the centre of 1 of 1 images: 33.3% of their pixels have no class" in answer.messages
    assert pixels_of(tmp_path / "masks" / "photo.overlay.png").shape == (40, 60, 3)


def test_the_whole_image_has_classes_where_the_model_was_trained_on_a_folder(vitral, scenes, photo, tmp_path):
    paint(tmp_path / "field", scenes, border=True)
    answer = vitral("train", "--data", "field", *QUICKLY, "--epochs", 1, "--out", "run").done()
    assert "of pixels are 255: ignored in training and in figures" in answer.messages
    answer = vitral("predict", "run", photo, "--out", "masks").done()
    mask = pixels_of(tmp_path / "masks" / "photo.mask.png")
    assert mask.shape == (40, 60) and (mask < 9).all() and "centre" not in answer.messages


def test_the_whole_image_has_classes_where_a_model_that_cut_images_was_the_start(vitral, scenes, run, photo, tmp_path):
    paint(tmp_path / "field", scenes)
    for path in (tmp_path / "field").rglob("*.png"):
        with Image.open(path) as image:
            image.resize((48, 16), Image.Resampling.NEAREST).save(path)
    words = ("train", "--init", run.folder, "--data", "field", "--epochs", 1, "--batch-size", 16)
    answer = vitral(*words, "--out", "again").done()
    assert "images and masks are resized whole" in answer.messages
    assert load("again").preprocessing.crop_mode == "squash"
    vitral("predict", "again", photo, "--out", "masks").done()
    assert (pixels_of(tmp_path / "masks" / "photo.mask.png") < 9).all()
    resumed = vitral("train", "--resume", "again").done()
    assert "resized whole" not in resumed.messages


def test_a_scan_of_several_pages_is_read_by_its_first_and_the_output_says_so(vitral, run, photo, tmp_path):
    with Image.open(photo) as image:
        image.save(tmp_path / "scan.tif", save_all=True, append_images=[image] * 3)
    answer = vitral("predict", run.folder, "scan.tif").done()
    assert "1 TIFF files have several pages, such as scan.tif (4): the first page of each is used" in answer.messages


def test_a_model_without_attention_is_explained_by_the_command_that_its_run_prints(vitral, photo, tmp_path):
    words = ("train", "--data", SCENES, "--model", "resnet_nano_48", "--epochs", 1, "--batch-size", 16)
    answer = vitral(*words, "--out", "run").done()
    assert "IMAGE --method grad_cam which places of your own image support" in answer.messages
    assert "--method grad_cam" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    vitral("explain", "run", photo, "--method", "grad_cam", "--orders", 0).done()


def test_a_part_of_a_region_that_the_model_does_not_see_is_named(vitral, run, photo):
    answer = vitral("explain", run.folder, photo, "--region", "0,0,30,40", "--method", "occlusion", "--orders", 0)
    assert "of which the model sees columns 10 to 30 and rows 0 to 40" in answer.done().messages


def test_images_without_the_class_are_left_out_of_several(vitral, run, photo, tmp_path):
    shares = vitral("predict", run.folder, photo, "--top", 9, "--json").done().json["predictions"][0]
    present = max(shares["shares_of_pixels"], key=shares["shares_of_pixels"].get)
    found = vitral("explain", run.folder, photo, photo, "--target", present, "--orders", 0, "--json").done().json
    assert len(found["explained"]) == 2
    absent = [name for name, share in shares["shares_of_pixels"].items() if share == 0]
    if absent:
        words = ("explain", run.folder, photo, photo, "--target", absent[0], "--orders", 0)
        refused = vitral(*words)
        refused.failed(2, "No pixel of photo.jpg is predicted as")
        assert "It is left out" in refused.messages


def test_the_data_is_described_with_its_masks(vitral, scenes, tmp_path):
    paint(tmp_path / "field", scenes, border=True)
    answer, words = vitral("data", "show", "field", "--json").done(), vitral("data", "show", "field").done().printed
    assert answer.json["ignored"] == pytest.approx(1 / 16) and "ignored (255) 6.2% of pixels" in words
    assert set(answer.json["masks"]) == set(scenes.classes) and words.count("of pixels, in") == 9
    assert Path(tmp_path / answer.json["sheet"]).is_file()
    vitral("data", "shortcuts", "field").failed(2, "shortcuts trains models that predict one class per image")


@pytest.mark.parametrize("method", ["attention", "rollout", "chefer", "occlusion", "grad_cam", "integrated_gradients"])
def test_a_region_is_explained_by_every_method(vitral, run, photo, method):
    words = ("explain", run.folder, photo, "--method", method, "--orders", 19, "--json")
    answer = vitral(*words, "--region", "20,10,16,16").done()
    (one,) = answer.json["explained"]
    assert one["method"] == method and (photo.parent / one["numbers"]).is_file()
    assert "explaining the 16x16 pixels of the image from column 20, row 10" in answer.messages
    page = (photo.parent / answer.json["page"]).read_text(encoding="utf-8")
    assert "the region" in page


def test_the_largest_object_or_a_class_is_explained_by_default(vitral, run, photo):
    answer = vitral("explain", run.folder, photo, "--orders", 0, "--json").done()
    assert "of pixels that are predicted as" in answer.messages
    shares = (
        vitral("predict", run.folder, photo, "--top", 9, "--json").done().json["predictions"][0]["shares_of_pixels"]
    )
    absent = [name for name, share in shares.items() if share == 0]
    if absent:
        refused = vitral("explain", run.folder, photo, "--target", absent[0])
        refused.failed(2, f"No pixel of photo.jpg is predicted as {absent[0]}", "--region X,Y,WIDTH,HEIGHT")
    vitral("explain", run.folder, photo, "--target", "cat").failed(2, "There is no class 'cat'")
    present = max(shares, key=shares.get)
    answer = vitral("explain", run.folder, photo, "--target", present, "--orders", 0).done()
    assert f"predicted as {present}" in answer.messages


def test_arrays_have_regions_too(run):
    import vitral

    pixels = find_data(SCENES).test.pixels[0]
    result = vitral.explain_images(
        run.folder, [pixels], "occlusion", region="3,4,10,10", orders=0, out=run.folder / "e"
    )
    assert "the 10x10 pixels of the image from column 3, row 4" in " ".join(result.notes)
    found = vitral.predict(run.folder, [pixels])
    assert found.masks[0].shape == (32, 32) and found.task == "segmentation"
    shares = np.bincount(found.masks[0].ravel(), minlength=9) / 1024
    np.testing.assert_allclose(found.values[0], shares, atol=1e-6)
    with pytest.raises(UsageError, match="Masks have no probability per image"):
        _ = found.probabilities


@pytest.mark.parametrize("encoder", ["vit_nano_patch8_48", "resnet_nano_48", "swin_nano_patch2_window6_48"])
def test_a_run_of_shapes_is_the_encoder_of_a_segmenter(vitral, encoder, scenes, tmp_path):
    words = ("--epochs", 1, "--batch-size", 16)
    vitral("train", "--data", "shapes:n=32,size=48", "--model", encoder, *words, "--out", "start").done()
    still = ("--lr", 0, "--weight-decay", 0)
    answer = vitral(
        "train", "--data", "scenes:n=16,held_out=8,size=48", "--init", "start", *words, *still, "--out", "run"
    )
    answer.done()
    assert "for 9 classes, untrained" in answer.messages
    start, found = (load_file(tmp_path / name / "model.safetensors") for name in ("start", "run"))
    inner = {name.removeprefix("encoder."): values for name, values in found.items() if name.startswith("encoder.")}
    learned = [name for name in inner if "running_" not in name and "num_batches" not in name]
    assert len(learned) > 10 and all((inner[name] == start[name]).all() for name in learned)
    assert any(name.startswith("decoder.") for name in found)


def test_a_published_checkpoint_is_the_encoder_of_a_segmenter(vitral, scenes, tmp_path):
    """A tiny one in timm's names."""
    sizes = dict(img_size=16, patch_size=4, embed_dim=32, depth=4, num_heads=2)
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=5, **sizes)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    words = ("--epochs", 1, "--batch-size", 16, "--lr", 0, "--weight-decay", 0, "--out", "run")
    init = f"{tmp_path / 'theirs.safetensors'},source=timm,num_heads=2"
    vitral("train", "--data", "scenes:n=16,held_out=8,size=16", "--init", init, *words).done()
    found, known = load_file(tmp_path / "run" / "model.safetensors"), theirs.state_dict()
    inner = {name.removeprefix("encoder."): values for name, values in found.items() if name.startswith("encoder.")}
    assert len(inner) > 20 and all((inner[name] == known[name].numpy()).all() for name in inner)


RESUMED = ("train", "--data", "scenes:n=64,held_out=8,size=16", "--model", "vit_nano_patch4_32", "--epochs", 5)
SETTINGS = ("--batch-size", 16, "--dice", 0.5, "--class-weights", "balanced", "--augment", "photo")


def test_a_killed_run_is_resumed_bit_for_bit(isolated, terminal, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    Terminal(isolated, folder)(*RESUMED, *SETTINGS, "--out", "run").done()
    unbroken, place = Trained(folder / "run"), terminal.folder / "run"
    terminal.stopped(*RESUMED, *SETTINGS, "--out", "run", when=reached(place, 8), by=signal.SIGKILL)
    assert not (place / "report.html").exists()
    terminal("train", "--resume", "run").done()
    assert_same(Trained(place), unbroken)


# A reader's own module


@pytest.mark.parametrize("name", ["Masks", "Attending"])
def test_a_readers_own_module_goes_through_every_verb(vitral, own, photo, name, tmp_path):
    data = ("--data", "scenes:n=16,held_out=8,size=16")
    vitral("train", *data, "--model", f"own.py:{name}", "--epochs", 1, "--batch-size", 8, "--out", "run").done()
    assert "mIoU" in vitral("eval", "run", "--json").done().json
    vitral("predict", "run", photo, "--out", "masks").done()
    assert pixels_of(tmp_path / "masks" / "photo.mask.png").shape == (40, 60)
    for method in ("occlusion", "grad_cam", "integrated_gradients"):
        vitral("explain", "run", photo, "--method", method, "--region", "20,10,16,16", "--orders", 0).done()
    answer = vitral("explain", "run", photo, "--region", "20,10,16,16", "--orders", 0)
    if name == "Attending":
        assert answer.done()
    else:
        answer.failed(1, "No attention was seen")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "Quarter",
            ("it returned (1, 9, 4, 4). Enlarge them in forward: F.interpolate(logits, size=images.shape[2:]",),
        ),
        ("LikeHuggingFace", ("it returned (1, 9, 4, 4). Enlarge them in forward",)),
        ("Last", ("it returned (1, 16, 16, 9). Move the classes to axis 1",)),
        ("PerImage", ("it returned (1, 9).",)),
    ],
)
def test_outputs_of_another_shape_are_refused(vitral, own, name, words):
    answer = vitral("train", "--data", "scenes:n=16,held_out=8,size=16", "--model", f"own.py:{name}", "--epochs", 1)
    answer.failed(
        2, "For one image of 16x16 and 9 classes, the model must return logits of shape (1, 9, 16, 16)", *words
    )


# Wrong arguments, and ordinary data that is unusual


def test_settings_of_segmentation_are_refused_for_other_data(vitral, run, trained, photo):
    words = ("train", "--data", "shapes:n=16,size=16")
    vitral(*words, "--dice", 1).failed(
        2, "--dice is for segmentation; the labels of shapes:n=16,size=16 are one class."
    )
    vitral(*words, "--init", run.folder).failed(2, "A segmentation model is not fine-tuned for another task")
    vitral("eval", run.folder, "--data", "shapes:n=16,size=32").failed(1, "the model's is 'segmentation'")
    vitral("explain", trained.folder, photo, "--region", "1,1").failed(2, "--region is for segmentation models")
    vitral("predict", trained.folder, photo, "--out", "x").failed(2, "--out is for masks")
    vitral("explain", run.folder, photo, "--region", "50,1,20,4").failed(2, "60 pixels wide and 40 high")
    answer = vitral("explain", run.folder, photo, "--region", "0,0,4,4")
    answer.failed(2, "lies outside what the model sees of photo.jpg: columns 10 to 50, rows 0 to 40")
    words = ("train", "--data", SCENES, "--init", run.folder, "--epochs", 0)
    vitral(*words).failed(2, "--epochs 0 fits a linear head")
    words = ("train", "--data", SCENES, "--model", "resnet_nano_48", "--decoder", "detail")
    vitral(*words).failed(2, "reads maps of one resolution", "Use pyramid, or linear")


def test_scores_of_methods_over_a_data_set_are_for_models_of_one_answer(vitral, run):
    answer = vitral("explain", run.folder, "--score", "--data", SCENES, "--n", 8)
    answer.failed(2, "Methods can be scored only with a model that predicts one class per image")


def test_what_the_layers_do_is_diagnosed(vitral, run, photo):
    answer = vitral("explain", run.folder, photo, "--diagnose").done()
    assert "logit_lens was left out" in answer.messages and "entropy by layer" in answer.printed
    vitral("explain", run.folder, photo, "--diagnose", "--region", "1,1").failed(2, "leave out", "--region")


def two_classes(home, share=0.5, count=16, validation=True):
    """Squares in half of the pictures, 0 and 255; the rest is empty."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            (home / split / kind).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((32, 32), np.uint8)
            if number < share * count and (validation or split == "train"):
                mask[6:26, 6:26] = 255
            image = (mask // 2 + rng.integers(0, 60, mask.shape)).astype(np.uint8)
            Image.fromarray(image).save(home / split / "images" / f"{number}.png")  # grey
            Image.fromarray(mask).save(home / split / "masks" / f"{number}.png")
    return home


def test_two_classes_in_grey_pictures_are_learned(vitral, tmp_path):
    two_classes(tmp_path / "spots")
    words = ("train", "--data", "spots", "--model", "resnet_nano_48", "--img-size", 32, "--epochs", 30)
    answer = vitral(*words, "--batch-size", 8, "--out", "run", "--json").done()
    assert "255 is read as class 1, foreground" in answer.messages
    assert answer.json["figures"]["mIoU"] > 0.8
    image = tmp_path / "spots" / "test" / "images" / "0.png"
    vitral("predict", "run", image, "--out", "masks").done()
    mask = pixels_of(tmp_path / "masks" / "0.mask.png")
    assert mask[12:20, 12:20].all() and not mask[0].any()
    vitral("explain", "run", image, "--method", "occlusion", "--orders", 0).done()


def test_validation_masks_of_background_alone_choose_by_the_loss(vitral, tmp_path):
    two_classes(tmp_path / "spots", validation=False)
    words = (
        "train",
        "--data",
        "spots",
        "--model",
        "resnet_nano_48",
        "--img-size",
        32,
        "--epochs",
        2,
        "--batch-size",
        8,
    )
    answer = vitral(*words, "--out", "run", "--json").done()
    assert answer.json["figures"]["mIoU"] is None and "mean IoU undefined" in answer.messages
    assert (tmp_path / "run" / "report.html").is_file()
    json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0], parse_constant=refuse_nan)


def refuse_nan(name):
    raise AssertionError(f"{name} is not JSON")


def test_pictures_without_an_object_are_explained(vitral, run, tmp_path):
    Image.new("RGB", (32, 32), (90, 90, 90)).save(tmp_path / "plain.png")
    answer = vitral("explain", run.folder, "plain.png", "--method", "occlusion", "--orders", 0).done()
    assert "of pixels that are predicted as" in answer.messages


def test_a_mask_folder_is_checked_before_training(vitral, scenes, tmp_path):
    paint(tmp_path / "field", scenes)
    Image.new("L", (8, 8)).save(tmp_path / "field" / "masks" / "3.png")
    words = ("train", "--data", "field", *QUICKLY, "--epochs", 1)
    vitral(*words).failed(1, "3.png is 8x8, its image 16x16", "A mask has one pixel for each pixel of its image")
    assert not (tmp_path / "runs").exists()
