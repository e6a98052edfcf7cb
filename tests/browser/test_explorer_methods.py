"""Relevance methods beside attention: their maps, their tests, and what a method that refuses says."""

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from test_explorer import DESK, PHONE, at, explored, photograph, settled, stage, start, state

from peers import PEERS
from tiny import tiny_vit
from vitral import explain
from vitral.base.errors import UsageError, WatchError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import batch_of
from vitral.explain.observation import observe
from vitral.explain.trials import Trials

METHODS = ("attention_gradient", "chefer", "input_gradient", "rollout", "occlusion")


@pytest.fixture(scope="module")
def model():
    names = ("circle", "square", "<b>", "triangle", "ring")
    return attach_record(tiny_vit(img_size=(16, 24)), ModelRecord(names, Preprocessing((16, 24), 0.9, "bilinear")))


@pytest.fixture(scope="module")
def page_of(model, tmp_path_factory):
    return explored(model, tmp_path_factory.mktemp("methods"), 2, method=METHODS).page


@pytest.fixture(scope="module")
def own_maps(model):
    images = batch_of([photograph()], model.preprocessing)
    return images, {name: getattr(explain, name)(model, images) for name in METHODS}


def choose(page, name):
    page.click(f".methods .glance button >> text={name.replace('_', ' ')}")
    settled(page)


def test_each_map_and_its_test_are_those_of_vitral_explain(opened, model, page_of, own_maps):
    page = start(opened, page_of, viewport=DESK).page
    images, maps = own_maps
    trials = Trials(observe(model, images, {"attention", "feature maps", "gradients"}))
    tests = dict(zip(METHODS, trials.trust_together([maps[name] for name in METHODS])))
    for name in METHODS:
        choose(page, name)
        values = page.evaluate("[...window.explorer.picture.map.values]")
        np.testing.assert_allclose(values, maps[name].merged[0].ravel(), rtol=2e-3, atol=1e-6)
        assert page.inner_text(".methods .test") == f"{name.replace('_', ' ')}: {tests[name][0].sentence}"
        assert maps[name].caption in page.inner_text(".caption") and tests[name][0].sentence in page.inner_text(
            ".caption"
        )
        assert state(page)["show"] == name


def test_a_signed_map_has_its_own_scale_and_pointing_gives_its_values(opened, page_of, own_maps):
    page = start(opened, page_of, "#show=occlusion", viewport=DESK).page
    values = own_maps[1]["occlusion"].merged[0]
    assert "against" in page.inner_text(".scale-labels") and "Relevance map of occlusion" in page.inner_text(".title")
    stage(page).hover(position=at(page, 1, 2))
    told = page.inner_text(".readout")
    sign = "+" if values[1, 2] > 0 else "−"
    assert told == f"row 1, column 2 has {sign}{float(f'{abs(values[1, 2]):.2g}'):g} logits"
    row, column = np.unravel_index(values.argmax(), values.shape)
    pixel = page.evaluate(
        """([x, y]) => {
            const canvas = document.querySelector(".stage canvas");
            return [...canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data];
        }""",
        [(column + 0.5) / values.shape[1], (row + 0.5) / values.shape[0]],
    )
    assert (pixel[0] > pixel[2]) == (values[row, column] > 0)  # orange for the class
    page.click("button:text-is('Map')")
    settled(page)
    assert "1× uniform" in page.inner_text(".scale-labels") and state(page)["show"] == "map"


def test_choosing_a_patch_a_head_or_a_layer_shows_attention_again(opened, page_of):
    page = start(opened, page_of, "#show=chefer", viewport=DESK).page
    stage(page).click(position=at(page, 1, 2))
    settled(page)
    assert state(page)["show"] == "map" and "the patch in row 1, column 2 attends to" in page.inner_text(".title")
    choose(page, "chefer")
    page.click(".heads button >> nth=2")
    settled(page)
    assert (state(page)["show"], state(page)["head"]) == ("map", "1")
    choose(page, "rollout")
    page.click("text=1.png")
    settled(page)
    assert (state(page)["show"], state(page)["image"]) == ("rollout", "1")
    choose(page, "rollout")  # again: back to attention
    assert state(page)["show"] == "map"


def test_the_keyboard_reaches_the_methods_and_hears_the_test(opened, page_of):
    page = start(opened, page_of, viewport=DESK).page
    page.focus(".methods .glance button >> nth=0")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert state(page)["show"] == "chefer" and "Tested: with the map's highest patches" in page.inner_text(
        "[aria-live]"
    )
    page.focus(".actions .choice button[tabindex='0']")  # neither Map nor Photograph is chosen
    assert page.evaluate("document.activeElement.textContent") == "Map"


@pytest.mark.parametrize(("viewport", "scheme"), [(PHONE, "dark"), (DESK, "light")], ids=["phone", "desk"])
def test_the_methods_have_no_barriers(opened, page_of, viewport, scheme):
    one = start(opened, page_of, "#show=input_gradient", viewport=viewport, color_scheme=scheme)
    page = one.page
    page.click(".methods summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.clock.resume()  # axe waits for it
    checked = Axe().run(page)
    assert checked.violations_count == 0, checked.generate_report()
    assert one.complaints == [] and page.locator("b").count() == 0


def test_methods_that_refuse_say_why(opened, tmp_path):
    preprocessing = Preprocessing((64, 96), 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
    model = attach_record(PEERS["timm Swin"]().model, ModelRecord(tuple("abcde"), preprocessing))
    page = start(opened, explored(model, tmp_path).page, viewport=DESK).page
    text = page.inner_text(".methods")
    with pytest.raises((UsageError, WatchError)) as refused:
        explain.rollout(model, batch_of([photograph()], preprocessing))
    assert f"rollout: not available. {refused.value}" in text
    choose(page, "grad_cam")
    values = page.evaluate("[...window.explorer.picture.map.values]")
    expected = explain.grad_cam(model, batch_of([photograph()], preprocessing)).merged[0]
    np.testing.assert_allclose(values, expected.ravel(), rtol=2e-3, atol=1e-5)


def test_a_large_grid_is_not_tested_unless_that_is_requested(opened, tmp_path):
    model = tiny_vit(img_size=(32, 72))  # 8 x 12 patches
    attach_record(model, ModelRecord(tuple("abcde"), Preprocessing((32, 72))))
    page = start(opened, explored(model, tmp_path, method=("rollout",)).page, "#show=rollout", viewport=DESK).page
    assert "Not tested on this page" in page.inner_text(".test") and "not tested" in page.inner_text(".methods .glance")
    made = explored(model, tmp_path, method=("rollout",), orders=19)
    page = start(opened, made.page, "#show=rollout", viewport=DESK).page
    assert "with 19 random orders" in page.inner_text(".test")


def test_a_saved_map_has_its_scale_its_test_and_the_address(opened, page_of, tmp_path):
    page = start(opened, page_of, "#show=occlusion", viewport=DESK).page
    with page.expect_download() as download:
        page.click("text=Save as PNG")
    assert download.value.suggested_filename.endswith(".occlusion.png")
    download.value.save_as(tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as picture:
        picture.load()  # checks every chunk
        described = picture.text["Description"]
    assert page.inner_text(".caption") in described and "show=occlusion" in described.splitlines()[-1]
