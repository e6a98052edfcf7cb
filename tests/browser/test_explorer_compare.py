"""Two images, or two models, beside each other on one page."""

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from test_explorer import DESK, HOSTILE, PHONE, explored, photograph, settled, start, state

import vitral
from tiny import tiny_vit
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import batch_of
from vitral.explain.observation import observe
from vitral.explain.untrained_twin import untrained_twin

NAMES = ("circle", "square", "<b>", "triangle", "ring")


def model_of(size=(16, 24), crop=1.0, seed=0, **changes):
    model = tiny_vit(seed=seed, img_size=size, **changes)
    return attach_record(model, ModelRecord(NAMES, Preprocessing(size, crop, "bilinear")))


@pytest.fixture(scope="module")
def first():
    return model_of()


@pytest.fixture(scope="module")
def twins(first, tmp_path_factory):
    """A page of a model beside itself with new weights, and two photographs."""
    return explored(first, tmp_path_factory.mktemp("twins"), 2, beside="untrained")


@pytest.fixture(scope="module")
def unlike(tmp_path_factory):
    """A page of two models with other depths, heads, grids and crops."""
    folder = tmp_path_factory.mktemp("unlike")
    models = model_of(depth=5, num_heads=2), model_of((20, 30), 0.5, 1, depth=3, num_heads=4, embed_dim=16)
    return models, explored(models[0], folder, beside=models[1])


def drawn(page, which):
    """What a stage shows: the layer, and the values of its patches."""
    of = "window.explorer" + (".second" if which else "")
    number, values = page.evaluate(f"[{of}.about.number, [...{of}.shown.patches]]")
    return number, np.array(values, float)


def from_watch(model, query, layer, head, seed=0):
    """What a patch or CLS (0) attends to, in multiples of uniform; head None for the mean."""
    rows = observe(model, batch_of([photograph(seed=seed)], model.preprocessing)).layers[layer].rows([query])[0, :, 0]
    row = (rows.mean(0) if head is None else rows[head])[1:].detach().numpy()
    return row / row.mean()


def test_two_photographs_show_the_same_token_layer_and_head(opened, first, tmp_path):
    made = explored(first, tmp_path, 2)
    one = start(opened, made.page, viewport=DESK)
    page = one.page
    assert page.locator(".stage").count() == 1 and state(page)["beside"] == "nothing"
    page.select_option("select", label="1.png")
    page.click(".heads .glance >> nth=0 >> button >> nth=2")
    page.click(".layers .glance >> nth=0 >> button >> nth=1")
    page.locator(".stage canvas >> nth=1").click(position={"x": 3, "y": 3})
    settled(page)
    assert (state(page)["token"], state(page)["beside"], state(page)["head"]) == ("0,0", "1", "1")
    for which in (0, 1):
        number, values = drawn(page, which)
        assert number == 1
        np.testing.assert_allclose(values, from_watch(first, 1, 1, 1, seed=which), rtol=0.02, atol=0.01)
    assert one.complaints == [] and one.dialogs == []


def test_a_model_beside_itself_untrained(opened, first, twins):
    page = start(opened, twins.page, viewport=DESK).page
    assert page.locator(".stage").count() == 2
    for which, model in enumerate((first, untrained_twin(first).eval())):
        number, values = drawn(page, which)
        assert number == 2
        np.testing.assert_allclose(values, from_watch(model, 0, 2, None), rtol=0.02, atol=0.01)
    answers = page.locator(".answers:visible")
    assert answers.count() == 2 and "untrained" in answers.nth(1).inner_text()
    page.click("summary >> text=How this page")
    assert "untrained is the architecture of" in page.inner_text(".facts")


def test_the_second_follows_the_photograph_and_can_change_places_with_the_first(opened, twins):
    page = start(opened, twins.page, viewport=DESK).page
    page.click(".choice >> nth=0 >> button >> nth=1")
    settled(page)
    assert (state(page)["image"], state(page)["beside"]) == ("1", "3")
    page.click(".choice >> nth=0 >> button >> nth=3")
    settled(page)
    assert (state(page)["image"], state(page)["beside"]) == ("3", "1")
    page.select_option("select", "")
    settled(page)
    assert state(page)["beside"] == "nothing" and page.locator(".stage").count() == 1
    assert page.locator(".answers:visible").count() == 1


def test_models_of_other_depth_heads_and_crop(opened, unlike):
    (_, second), made = unlike
    one = start(opened, made.page, viewport=DESK)
    page = one.page
    assert len(made.layers) == 5 and len(made.beside.layers) == 3
    for layer, beside in ((4, 2), (2, 1), (0, 0)):
        page.click(f".layers .glance >> nth=0 >> button >> nth={layer}")
        settled(page)
        assert [drawn(page, which)[0] for which in (0, 1)] == [layer, beside]
        assert f"Layer {beside} (0 to 2)" in page.locator(".label").nth(1).inner_text()
    page.click("summary >> text=How this page")
    assert "different numbers of attention layers" in page.inner_text(".facts")
    assert "the heads that both have" in page.inner_text(".heads")
    # The second saw the middle of the photograph: the patch in the first's corner is not in it.
    page.locator(".stage canvas >> nth=0").click(position={"x": 2, "y": 2})
    settled(page)
    assert "did not see that place" in page.locator(".caption").nth(1).inner_text()
    # The middle is the same place in both, though at other shares of other grids.
    box = page.locator(".stage canvas >> nth=0").bounding_box()
    page.locator(".stage canvas >> nth=0").click(position={"x": box["width"] * 0.45, "y": box["height"] * 0.55})
    settled(page)
    row, column = page.evaluate("[window.explorer.second.shown.row, window.explorer.second.shown.column]")
    assert "did not see" not in page.locator(".caption").nth(1).inner_text()
    window = page.evaluate("window.explorer.second.image.pictures.window")
    token = page.evaluate("window.explorer.view.token")
    whole = page.evaluate("window.explorer.image.pictures.window")
    place = {"x": (0, 2), "y": (1, 3)}
    share = {
        axis: (whole[near] + token[axis] * (whole[far] - whole[near]) - window[near]) / (window[far] - window[near])
        for axis, (near, far) in place.items()
    }
    assert (row, column) == (int(share["y"] * 5), int(share["x"] * 5))
    query = 1 + row * 5 + column
    np.testing.assert_allclose(drawn(page, 1)[1], from_watch(second, query, 0, None), rtol=0.02, atol=0.01)
    assert one.complaints == []


def test_a_head_that_the_second_does_not_have_is_averaged_in_words(opened, tmp_path):
    made = explored(model_of(), tmp_path, beside=model_of(num_heads=2, seed=1))
    page = start(opened, made.page, "#head=3", viewport=DESK).page
    assert "This layer has 2 heads, so they are averaged." in page.locator(".caption").nth(1).inner_text()
    _, values = drawn(page, 1)
    np.testing.assert_allclose(values, from_watch(model_of(num_heads=2, seed=1), 0, 2, None), rtol=0.02, atol=0.01)


def test_a_link_opens_both(opened, twins):
    page = start(opened, twins.page, "#image=1&beside=0&head=1&token=1,2&layer=1", viewport=DESK).page
    page.locator(".stage canvas >> nth=1").hover(position={"x": 30, "y": 30})
    assert "Beside it: row 0, column 0 gets" in page.inner_text(".readout")
    again = start(opened, twins.page, page.evaluate("location.hash"), viewport=DESK).page
    assert state(again) == state(page) and state(again)["beside"] == "0"
    captions = [one.locator(".caption").all_inner_texts() for one in (page, again)]
    assert captions[0] == captions[1] and len(captions[0]) == 2


@pytest.mark.parametrize(("viewport", "scheme"), [(PHONE, "dark"), (DESK, "light")], ids=["phone", "desk"])
def test_two_stages_fit_and_have_no_barriers(opened, twins, viewport, scheme):
    page = start(opened, twins.page, viewport=viewport, color_scheme=scheme).page
    boxes = [box.bounding_box() for box in page.locator(".stage").all()]
    assert (boxes[1]["y"] > boxes[0]["y"] + 50) == (viewport == PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert HOSTILE in page.locator(".label").nth(1).inner_text() and page.locator("img[src=x]").count() == 0
    page.clock.resume()  # axe waits for it
    checked = Axe().run(page)
    assert checked.violations_count == 0, checked.generate_report()


def test_what_changes_is_told_of_both(opened, twins):
    page = start(opened, twins.page, viewport=DESK).page
    page.focus(".stage >> nth=1")
    page.keyboard.press("ArrowRight")
    settled(page)
    told = page.inner_text("[aria-live]")
    assert told.count("the patch in row") >= 2 and f"Beside it, {HOSTILE}, untrained" in told


def test_a_saved_picture_has_both_and_says_so_in_its_text(opened, twins, tmp_path):
    page = start(opened, twins.page, "#token=1,1", viewport=DESK).page
    with page.expect_download() as download:
        page.click("text=Save as PNG")
    download.value.save_as(tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as picture:
        picture.load()
        described = picture.text["Description"]
        width, height = picture.size
    captions = page.locator(".caption").all_inner_texts()
    assert all(caption in described for caption in captions) and len(captions) == 2
    assert described.endswith(f"This view: page.html{page.evaluate('location.hash')}") and "/tmp" not in described
    assert width > 900 > height / 2


def test_a_page_of_one_image_has_nothing_to_choose_beside_it(opened, first, tmp_path):
    page = start(opened, vitral.explore(first, photograph(), out=tmp_path / "page.html").page, viewport=DESK).page
    assert page.locator("select").count() == 0 and "beside" not in state(page)
