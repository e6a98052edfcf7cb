"""`vitral explain MODEL IMAGES`: its page can be repeated, says what was left out, and needs no classes."""

import html
import re
import shlex
from pathlib import Path

import pytest

import peers  # noqa: F401 - makes torchvision, and so timm, importable
from shell import tree

MODELS = '''
import torch
from torch import nn


class Convolutions(nn.Module):
    """Without attention, and with more outputs than anybody says; `Asked` says how many."""

    count = 1200

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, self.count)
        self.img_size = 32
        nn.init.constant_(self.head.bias[-1], 5.0)

    def forward(self, images):
        return self.head(self.second(self.first(images).relu()).relu().mean(dim=(2, 3)))


class Few(Convolutions):
    count = 3


class Own(Few):
    def __init__(self):
        super().__init__()
        self.preprocessing = nn.Identity()


class Segmenter(nn.Module):
    """A ViT of one block that scores every patch."""

    def __init__(self):
        super().__init__()
        self.img_size, self.patches = 32, nn.Conv2d(3, 16, 8, 8)
        self.block, self.head = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Conv2d(16, 4, 1)

    def forward(self, images):
        tokens = self.block(self.patches(images).flatten(2).mT)
        return self.head(tokens.mT.unflatten(2, (4, 4)))
'''


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    return path


@pytest.fixture
def image(photos):
    return photos / "dark" / "0.png"


@pytest.mark.parametrize(
    "words",
    [
        ("--query", "1,0", "--layer", 2, "--head", 1, "--target", 3, "--on-bad-image", "skip"),
        ("--method", "chefer", "occlusion", "--target", "ring", "--out", "my maps", "--json"),
        ("--query", "grid", "--layer", 0, -1),
    ],
    ids=str,
)
def test_the_command_on_the_page_makes_the_same_page(vitral, trained, image, tmp_path, monkeypatch, words):
    spaced = image.rename(image.with_name("a picture.png"))
    vitral("explain", trained.folder, spaced, *words).done()
    (page,) = tmp_path.rglob("*.html")
    first, pictures = page.read_bytes(), tree(page.parent)
    (typed,) = re.findall(r"<pre>(vitral explain [^<]*)</pre>\s*<details>", page.read_text())
    start, *again = shlex.split(html.unescape(typed))
    assert start == "vitral" and len(again) >= 3 + len([word for word in words if word != "--json"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    vitral(*again).done()
    (other,) = (tmp_path / "elsewhere").rglob("*.html")
    assert other.read_bytes() == first and tree(other.parent) == pictures


def test_a_page_with_only_the_defaults_is_repeated_without_options(vitral, trained, image, tmp_path):
    vitral("explain", trained.folder, image).done()
    assert f"<pre>vitral explain {trained.folder} {image}</pre>" in (tmp_path / "explained" / "0.html").read_text()


def test_a_method_that_cannot_explain_the_model_is_left_out_with_its_reason(vitral, models, image, tmp_path):
    answer = vitral("explain", f"{models}:Few", image, "--method", "attention", "grad_cam", "--json").done()
    assert [found["method"] for found in answer.json["explained"]] == ["grad_cam"]
    assert list(answer.json["refused"]) == ["attention"]
    reason = answer.json["refused"]["attention"]
    assert "No attention was seen" in reason and "attention was left out: No attention was seen" in answer.messages
    assert html.escape(reason, quote=True).replace("&#x27;", "&#39;") in Path(answer.json["page"]).read_text()


@pytest.mark.parametrize(
    "words", [(), ("--method", "attention", "grad_cam", "--layer", 0)], ids=["alone", "with --layer"]
)
def test_nothing_is_written_where_nothing_can_be_shown(vitral, models, image, tmp_path, words):
    vitral("explain", f"{models}:Few", image, *words).refused(1, "No attention was seen")
    assert not (tmp_path / "explained").exists()


def test_a_model_of_more_classes_than_it_says(vitral, models, image):
    words = (image, "--method", "occlusion", "--target")
    (found,) = vitral("explain", f"{models}:Convolutions", *words, 1100, "--json").done().json["explained"]
    assert (found["class"], found["target"]) == ("class 1199", "class 1100")
    vitral("explain", f"{models}:Few", *words, 7).refused(2, "The model has 3")


def test_a_model_whose_preprocessing_is_something_else(vitral, models, image):
    answer = vitral("explain", f"{models}:Own", image)
    answer.refused(2, "has an attribute `preprocessing` of type Identity", "rename yours")


@pytest.mark.parametrize("name", ["timm:test_vit,num_classes=0", "Segmenter"])
def test_a_model_without_classes_is_looked_into(vitral, models, image, name, monkeypatch):
    if name.startswith("timm:"):
        import timm

        made = timm.create_model("test_vit", num_classes=0)
        monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: made)
        name = "timm:test_vit,pretrained=false"
    else:
        name = f"{models}:{name}"
    answer = vitral("explain", name, image, "--method", "attention", "rollout", "chefer", "--json").done()
    assert [found["method"] for found in answer.json["explained"]] == ["attention", "rollout"]
    assert {(found["class"], found["target"], found["verdict"]) for found in answer.json["explained"]} == {
        (None, None, "cannot be tested")
    }
    assert all(found["deletion"] is None and found["p"] is None for found in answer.json["explained"])
    assert "not one score per class" in answer.json["refused"]["chefer"]
    page = Path(answer.json["page"]).read_text()
    assert "The model scores no classes, so it has no prediction and no map was tested" in page
    vitral("explain", name, image, "--target", 1).refused(2, "the model has no classes. Leave --target out.")


def test_what_was_tested_is_in_the_record(vitral, trained, image):
    found = vitral("explain", trained.folder, image, "--method", "occlusion", "--json").done().json["explained"][0]
    assert found["target"] == found["class"]
    if found["why_untested"] is None:
        as_good = sum(area <= found["deletion"] + 1e-6 for area in found["deletion_by_chance"])
        assert found["p"] == (1 + as_good) / (1 + len(found["deletion_by_chance"]))
    assert found["better_than_chance"] == (found["verdict"] == "better than chance")
