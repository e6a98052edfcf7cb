"""Published checkpoints at the command line: what was assumed of them is said, whatever is done with them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from shell import paint
from tiny import tiny_vit
from vitral.base.record import ModelRecord, attach_record
from vitral.data.image import load_image
from vitral.nn.family.pool import AttentionPool
from vitral.weights.convert import write
from vitral.weights.load import load

FAILURE, USAGE = 1, 2
LIGHTER = np.array([0.299, 0.587, 0.114])


@pytest.fixture
def published(tmp_path):
    """The function that writes a small ViT as timm would, and gives its folder."""

    def written(classes=("dark", "light"), **changes):
        model = tiny_vit(**(dict(img_size=16, patch_size=4, num_classes=len(classes)) | changes))
        write(attach_record(model, ModelRecord(tuple(classes), model.preprocessing)), tmp_path / "out", "timm")
        return tmp_path / "out"

    return written


def test_a_checkpoint_is_judged_on_data_that_is_named(vitral, published, photos):
    folder = published()
    answer = vitral("eval", folder, "--data", "photos", "--json").done()
    assert "read as timm" in answer.messages and answer.json["n"] == 24  # none of them trained it
    vitral("eval", folder).refused(USAGE, "does not record what it was trained on. Specify the data: --data.")
    paint(photos.parent / "birds", {"crow": 20, "swan": 230})
    answer = vitral("eval", folder, "--data", "birds")
    answer.refused(FAILURE, "birds has the classes crow, swan; the model has dark, light.", "vitral train --init")


def test_classes_in_another_order_are_the_same_classes(vitral, published, photos):
    """The model's answers are its own, whatever order its classes have: what is right cannot depend on it."""
    folder = published()
    first = vitral("eval", folder, "--data", "photos", "--json").done().json
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"label_names": ["light", "dark"]}))
    second = vitral("eval", folder, "--data", "photos", "--json").done().json
    assert np.sum(first["confusion"]) == np.sum(second["confusion"]) == 24
    assert second["confusion"] == first["confusion"][::-1]  # rows are what is there, and changed places
    assert second["accuracy"] == pytest.approx(1 - first["accuracy"])


def test_a_start_keeps_the_head_of_classes_in_another_order(vitral, published, photos):
    """And goes on with it when it is resumed: what it learned of a class stays that class's."""
    start = published(("light", "dark"))
    words = ("--data", "photos", "--batch-size", 8, "--lr", 1e-9, "--out", "run")
    answer = vitral("train", "--init", start, *words, "--epochs", 1).done()
    assert "a new head" not in answer.messages and load("run").classes == ("light", "dark")
    torch.testing.assert_close(load("run").head.weight, load(start).head.weight, rtol=1e-5, atol=1e-5)
    paint(photos.parent / "others", {"dark": 70, "light": 180})
    first, after = (vitral("eval", one, "--data", "others", "--json").done().json for one in (start, "run"))
    assert after["confusion"] == first["confusion"] and after["n"] == 24
    tested = vitral("eval", "run", "--json").done().json
    assert vitral("train", "--resume", "run", "--json").done().json["test_accuracy"] == tested["accuracy"]


def test_what_a_bare_file_does_not_say_is_said_behind_it(vitral, photos):
    save_file(tiny_vit(img_size=16, patch_size=4, num_classes=2).state_dict(), "bare.safetensors")
    answer = vitral("eval", "bare.safetensors,source=deit,num_heads=4", "--data", "photos").done()
    assert (
        "assumed: preprocessing that no file or option states: mean 0.485/0.456/0.406, std 0.229/0.224/0.225"
        in answer.messages
    )
    assert "assumed: the model's classes are those of photos, in their order" in answer.messages
    vitral("eval", "bare.safetensors,num_heads=4", "--data", "photos").refused(FAILURE, "specify source=...")
    paint(photos.parent / "birds", {"crow": 20, "gull": 100, "swan": 230})
    answer = vitral("eval", "bare.safetensors,source=deit,num_heads=4", "--data", "birds")
    answer.refused(FAILURE, "birds has 3 classes; the model predicts 2.")


def test_features_cannot_be_judged(vitral, published, photos):
    folder = published((), num_classes=0)
    vitral("eval", folder, "--data", "photos").refused(USAGE, "no classes to evaluate", "vitral train --init")


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_what_was_assumed_is_said_with_every_answer(vitral, photos, verb):
    save_file(tiny_vit(img_size=16, patch_size=4, num_classes=2).state_dict(), "bare.safetensors")
    answer = vitral(verb, "bare.safetensors,source=deit,num_heads=4", photos / "dark" / "0.png").done()
    assert "read as deit" in answer.messages and "assumed: images of (16, 16)" in answer.messages


def test_a_model_of_one_channel_sees_luminance(vitral, published, photos):
    """From its checkpoint to predicting, judging, explaining, and a start for another model."""
    folder, image = published(in_channels=1), photos / "dark" / "0.png"
    model = load(folder)
    assert model.preprocessing.mean == model.preprocessing.std == (0.5,)
    Image.fromarray(load_image(image)[:, :, ::-1]).resize((16, 16)).save("fits.png")
    grey = torch.tensor(load_image("fits.png") @ LIGHTER, dtype=torch.float32)[None, None] / 127.5 - 1
    with torch.no_grad():
        expected = model(grey).softmax(1)[0]
    answer = vitral("predict", folder, "fits.png", "--json").done()
    assert "assumed: images are converted to luminance" in answer.messages
    found = answer.json["predictions"][0]["classes"]
    assert [found["dark"], found["light"]] == pytest.approx(expected.tolist(), abs=1e-5)
    assert vitral("eval", folder, "--data", "photos", "--json").done().json["n"] == 24
    methods = ("attention", "chefer", "grad_cam", "input_gradient", "integrated_gradients", "occlusion", "rollout")
    explained = vitral("explain", folder, image, "--method", *methods, "--json").done().json
    assert len(explained["explained"]) == len(methods)
    vitral("explain", folder, "--data", "photos", "--score", "--method", "rollout", "--n", 2).done()
    vitral("train", "--init", folder, "--data", "photos", "--epochs", 1, "--batch-size", 8, "--out", "run").done()
    assert load("run").preprocessing.mean == (0.5,) and load("run").config["in_channels"] == 1
    assert vitral("eval", "run", "--json").done().json["n"] == 4


def test_a_model_that_asks_its_patches_by_a_query_of_its_own_is_a_start(vitral, published, photos):
    """As SigLIP does, whose features are given a head."""
    folder = published((), num_classes=0, tokens={}, pool=AttentionPool)
    assert "attn_pool.latent" in load_file(folder / "model.safetensors")
    words = ("--data", "photos", "--epochs", 1, "--batch-size", 8, "--out", "run")
    answer = vitral("train", "--init", folder, *words).done()
    assert "a new head for 2 classes" in answer.messages and load("run").classes == ("dark", "light")


@pytest.mark.parametrize("channels", [2, 4])
def test_a_model_of_channels_that_no_image_has_is_refused(vitral, published, photos, channels):
    folder, image = published(in_channels=channels), photos / "dark" / "0.png"
    assert load(folder)(torch.zeros(1, channels, 16, 16)).shape == (1, 2)
    words = ("eval", "--data", "photos"), ("predict", image), ("explain", image)
    for verb, *more in words:
        message = f"The model takes {channels} channels, but an image file has three"
        vitral(verb, folder, *more).refused(FAILURE, message)
    train = ("train", "--init", folder, "--data", "photos", "--batch-size", 8)
    vitral(*train).refused(FAILURE, f"The model takes {channels} channels")
    assert not (photos.parent / "runs").exists()


def test_overrides_of_what_is_not_there(vitral):
    vitral("convert", "nowhere", "out", "--num-heads", 8).refused(2, "There is no run 'nowhere'")
