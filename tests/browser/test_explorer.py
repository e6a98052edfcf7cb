"""The explorer's page as a person opens it: from a file, by mouse, keys and touch, on a desk and on a phone."""

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

import vitral
from tiny import tiny_vit, with_record
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import batch_of
from vitral.explain.observation import observe
from vitral.explorer.choice import Choice

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
HOSTILE = "<img src=x onerror=alert(1)>.png"


def photograph(height=60, width=90, seed=0):
    """A photograph that is not square, brighter to the right."""
    noise = np.random.default_rng(seed).integers(0, 90, (height, width, 3))
    return (noise + np.linspace(0, 160, width)[None, :, None]).astype(np.uint8)


def explored(model, folder, count=1, **options):
    """A page of a model and some photographs in files, and the observations of what it saw."""
    files = []
    for number in range(count):
        file = folder / (HOSTILE if number == 0 else f"{number}.png")
        Image.fromarray(photograph(seed=number)).save(file)
        files.append(file)
    return vitral.explore(model, files, out=folder / "page.html", **options)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A page of the tiny ViT, whose classes and files are named like markup."""
    names = ("circle", "square", "<b>", "triangle", "ring")
    model = attach_record(tiny_vit(img_size=(16, 24)), ModelRecord(names, Preprocessing((16, 24), 0.9, "bilinear")))
    return explored(model, tmp_path_factory.mktemp("explorer"), 2)


@pytest.fixture
def window(opened, found):
    return start(opened, found.page, viewport=DESK)


def start(opened, path, address="", **settings):
    """The page after its first map was drawn."""
    one = opened(path, address, **settings)
    one.page.set_default_timeout(8_000)
    one.page.wait_for_selector("#explorer[aria-busy=false]")
    return one


def state(page):
    """The view that the address says."""
    return page.evaluate("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))")


def settled(page):
    """Once the view that was chosen is drawn, and in the address."""
    page.evaluate("window.explorer.render()")
    page.clock.run_for(300)


def stage(page):
    return page.locator(".stage canvas")


def at(page, row, column):
    """A place inside the canvas, in the middle of a patch."""
    box = stage(page).bounding_box()
    rows, columns = page.evaluate("window.explorer.about.grid")
    return {"x": box["width"] * (column + 0.5) / columns, "y": box["height"] * (row + 0.5) / rows}


def colours(page):
    """The canvas as it is drawn."""
    return page.evaluate("document.querySelector('.stage canvas').toDataURL()")


def test_the_page_opens_without_a_complaint_and_fetches_nothing(window, found):
    assert window.complaints == [] and window.dialogs == []
    assert [url for url in window.requests if not url.startswith(("data:", "blob:"))] == [found.page.as_uri()]


def test_names_of_files_and_classes_are_text(window):
    page = window.page
    assert HOSTILE in page.inner_text(".about-image") and page.locator("img[src=x]").count() == 0
    assert "<b>" in page.inner_text("#explorer") or page.locator("b").count() == 0


def test_pointing_at_a_patch_shows_what_it_attends_to(window):
    page = window.page
    before = colours(page)
    assert "What CLS attends to" in page.inner_text(".title")
    stage(page).hover(position=at(page, 1, 2))
    settled(page)
    assert "the patch in row 1, column 2" in page.inner_text(".title") and colours(page) != before
    page.mouse.move(1, 1)
    settled(page)
    assert "What CLS attends to" in page.inner_text(".title") and colours(page) == before


def test_a_click_holds_a_patch_and_tells_the_values_of_others(window):
    page = window.page
    stage(page).click(position=at(page, 1, 2))
    stage(page).hover(position=at(page, 0, 3))
    settled(page)
    assert state(page)["token"] == "1,2"
    stage(page).hover(position=at(page, 0, 1))
    value = page.evaluate("window.explorer.shown.patches[1]")
    assert page.inner_text(".readout") == f"row 0, column 1 gets {value:.1f}×"
    stage(page).click(position=at(page, 1, 2))
    stage(page).hover(position=at(page, 0, 3))
    settled(page)
    assert "row 0, column 3" in page.inner_text(".title")


def test_arrow_keys_move_and_letters_change_layer_head_and_direction(window):
    page = window.page
    page.focus(".stage")
    for key in ("ArrowDown", "ArrowRight", ",", "h", "d"):
        page.keyboard.press(key)
        settled(page)
    view = state(page)
    rows, columns = page.evaluate("window.explorer.about.grid")
    assert view["token"] == f"{min(rows - 1, (rows - 1) // 2 + 1)},{(columns - 1) // 2 + 1}"
    assert (view["layer"], view["head"], view["direction"]) == ("1", "0", "from")
    page.keyboard.press("c")
    settled(page)
    assert state(page)["token"] == "cls" and "What attends to CLS" in page.inner_text(".title")
    assert "What attends to CLS" in page.inner_text("[aria-live]")


def test_everything_is_reached_by_the_tab_key_and_shows_where_one_is(window):
    page = window.page
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        tag, outline = page.evaluate(
            "(() => { const e = document.activeElement; return [e.className + e.tagName + e.textContent.slice(0, 9), "
            "getComputedStyle(e).outlineWidth] })()"
        )
        if "BODY" in tag:
            break
        assert outline == "3px", tag
        reached.append(tag)
    text = " ".join(reached)
    assert all(word in text for word in ("What it", "CLS", "stage", "Play", "INPUT", "mean", "Save", "SUMMARY"))


def test_the_slider_the_small_maps_and_play_change_the_layer(window):
    page = window.page
    last = page.evaluate("window.explorer.image.layers.length") - 1
    page.focus("input[type=range]")
    page.keyboard.press("Home")
    settled(page)
    assert state(page)["layer"] == "0"
    page.click(f".layers .glance button >> nth={last}")
    settled(page)
    assert state(page)["layer"] == str(last)
    page.click(".play")
    page.clock.run_for(1_300)
    assert page.evaluate("window.explorer.view.layer") == 2 and page.inner_text(".play") == "Pause"
    page.clock.run_for(5_000)
    assert page.inner_text(".play") == "Play"


def test_pointing_does_not_write_the_address_again_and_again(window):
    """Browsers refuse more than about a hundred such writes in half a minute."""
    page = window.page
    page.evaluate("() => { window.writes = 0; history.replaceState = () => { window.writes += 1; }; }")
    for step in range(6):
        stage(page).hover(position=at(page, step % 3, step % 4))
    page.focus(".stage")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    settled(page)
    assert page.evaluate("window.writes") == 1


def test_a_link_opens_the_same_view(opened, window, found):
    page = window.page
    page.click("text=1.png")
    page.click("text=What attends to it")
    page.click(".heads button >> nth=3")
    stage(page).click(position=at(page, 1, 1))
    settled(page)
    again = start(opened, found.page, page.evaluate("location.hash"), viewport=DESK).page
    assert state(again) == state(page)
    assert (state(page)["image"], state(page)["head"], state(page)["direction"]) == ("1", "2", "from")
    assert again.inner_text(".caption") == page.inner_text(".caption") and colours(again) == colours(page)


def test_a_link_that_is_wrong_opens_the_first_view(opened, found):
    for address in ("#image=9&layer=77&head=x&token=88,1&direction=up", "#token=<b>", "#%"):
        one = start(opened, found.page, address, viewport=DESK)
        assert one.complaints == [] and state(one.page)["token"] == "cls" and state(one.page)["head"] == "mean"


def test_the_page_does_not_scroll_sideways(window):
    page = window.page
    page.click(".facts summary")
    for width in (320, 390, 768, 1_280):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("viewport", "scheme"), [(PHONE, "dark"), (DESK, "light")], ids=["phone", "desk"])
def test_the_page_has_no_barriers_for_readers_with_other_means(opened, found, viewport, scheme):
    page = start(opened, found.page, viewport=viewport, color_scheme=scheme).page
    page.click(".facts summary")
    page.clock.resume()  # axe waits for it
    checked = Axe().run(page)
    assert checked.violations_count == 0, checked.generate_report()


def test_on_a_phone_a_tap_chooses_and_the_controls_fit_a_finger(opened, found):
    page = start(opened, found.page, viewport=PHONE, has_touch=True).page
    stage(page).tap(position=at(page, 0, 1))
    settled(page)
    assert state(page)["token"] == "0,1"
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box["height"] >= 24 and box["width"] >= 24 and box["x"] + box["width"] <= PHONE["width"]


def test_the_view_is_saved_as_a_picture_with_its_caption(window, tmp_path):
    page = window.page
    with page.expect_download() as download:
        page.click("text=Save as PNG")
    assert download.value.suggested_filename.endswith(
        "VisionTransformer.layer-2.heads-averaged.What-CLS-attends-to.png"
    )
    download.value.save_as(tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as picture:
        assert picture.format == "PNG" and picture.width > 900
        below = np.asarray(picture.convert("L"))[-100:]
        assert (below < 120).sum() > 200  # text


def test_without_scripts_or_decompression_still_pictures_remain(opened, found):
    page = opened(found.page, java_script_enabled=False).page
    assert page.locator(".still img:visible").count() == 2 and "JavaScript" in page.inner_text(".still")
    assert not page.locator("#explorer").is_visible()
    without = "delete globalThis.DecompressionStream"
    one = opened(found.page, before=without)
    assert one.page.locator(".still img:visible").count() == 2 and one.complaints == []


def test_a_page_that_has_every_second_patch_moves_between_these(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("vitral.explorer.sizes.choices", lambda count: iter([Choice(2, 1)]))
    model = with_record(tiny_vit(img_size=(20, 30)))  # 5 x 5 patches
    attach_record(model, ModelRecord(model.classes, Preprocessing((20, 30))))
    made = explored(model, tmp_path)
    one = start(opened, made.page, "#token=2,2&layer=0&head=1", viewport=DESK)
    page = one.page
    page.click(".facts summary")
    assert "single heads in the last layer" in page.inner_text(".facts")
    said = page.inner_text(".caption")
    assert "heads averaged" in said and "does not have the patches' rows of head 1" in said
    page.focus(".stage")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert state(page)["token"] == "2,4" and "row 2, column 4" in page.inner_text(".title")
    page.keyboard.press("d")
    settled(page)
    values = page.evaluate("[...window.explorer.shown.patches].map((value) => Number.isNaN(value))")
    assert [place for place, missing in enumerate(values) if not missing] == [0, 2, 4, 10, 12, 14, 20, 22, 24]
    assert one.complaints == []


PEERS = ("timm ViT, registers, mean pool", "Hugging Face SigLIP", "torchvision ViT", "timm Swin")


@pytest.mark.parametrize("name", ["ours", *PEERS])
def test_every_row_of_the_page_is_what_watch_gives(opened, tmp_path, name):
    if name == "ours":
        model = with_record(tiny_vit())
    else:
        from peers import PEERS as EVERY

        peer = EVERY[name]()
        preprocessing = Preprocessing(peer.size, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
        classes = tuple(f"class {each}" for each in range(5 * peer.classes))
        model = attach_record(peer.model, ModelRecord(classes, preprocessing))
    made = explored(model, tmp_path)
    one = start(opened, made.page, viewport=DESK)
    images = batch_of([photograph()], model.preprocessing)
    observation = observe(model, images)
    assert one.complaints == [] and len(made.layers) == len(observation.layers)
    script = """async (place) => {
        const layer = await window.explorer.source.layer(0, place);
        const count = layer.queryNames.length + layer.numPatches * layer.patchesAttend;
        const rows = [];
        for (let head = 0; head < layer.about.heads; head += 1)
            for (let query = 0; query < count; query += 1) rows.push([...layer.row(head, query)]);
        return rows;
    }"""
    for place, layer in enumerate(observation.layers):
        shown = np.array(one.page.evaluate(script, place)).reshape(layer.num_heads, -1, layer.num_tokens)
        expected = rows_in_order(layer)
        assert shown.shape == expected.shape
        error = np.abs(shown - expected).max(axis=-1) / expected.max(axis=-1)
        assert error.max() <= made.error + 1e-5 <= 1 / 250


@pytest.mark.parametrize("name", ["ours", "timm Swin"])
def test_both_directions_show_the_same_values_in_multiples_of_uniform(opened, found, tmp_path, name):
    """1 is the mean over the patches that a query can attend to, and "from" is "to" with patches exchanged."""
    made = found
    if name != "ours":
        from peers import PEERS as EVERY

        preprocessing = Preprocessing((64, 96), 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
        made = explored(attach_record(EVERY[name]().model, ModelRecord(tuple("abcde"), preprocessing)), tmp_path)
    page = start(opened, made.page, viewport=DESK).page
    script = """async ([place, head]) => {
        const layer = await window.explorer.source.layer(0, place);
        const own = layer.queryNames.length;
        const patches = [...Array(layer.numPatches).keys()];
        const of = (way) => patches.map((patch) => [...layer[way](head, own + patch).patches]);
        return [of("outgoing"), of("incoming")];
    }"""
    for place, head in ((0, "mean"), (len(made.layers) - 1, 1)):
        outgoing, incoming = np.array(page.evaluate(script, [place, head]), float)
        np.testing.assert_allclose(incoming, outgoing.T, rtol=1e-4)
        np.testing.assert_allclose(np.nanmean(outgoing, axis=1), 1, rtol=1e-4)
        assert np.isnan(outgoing).any() == (name != "ours")  # outside of the window


def rows_in_order(layer):
    """All rows as the page counts tokens: those that are no patches first, then the patches along rows."""
    weights = layer.weights().detach().double()
    if layer.windows is None:
        order = [*layer.tokens.other_tokens, *layer.tokens.patch_tokens]
        return weights[0][:, order if layer.queries_are_keys else slice(None)][..., order].numpy()
    places = [layer.windows.locate(patch) for patch in range(layer.windows.grid[0] * layer.windows.grid[1])]
    return torch.stack([weights[window, :, token] for window, token in places], dim=1).numpy()
