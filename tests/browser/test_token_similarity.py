"""What is similar to a token, and what the position table knows: the page shows what PyTorch computes."""

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from test_explorer import DESK, PHONE, at, explored, photograph, settled, stage, start, state

from tiny import tiny_vit
from until import until
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import batch_of
from vitral.explain.diagnostics.similarity import similarity
from vitral.nn.family.position import NoPosition, SinCosPosition
from vitral.nn.family.rope import RotaryAttention
from vitral.report.similarity import cosine_similarity

CLASSES = ("circle", "square", "<b>", "triangle", "ring")
PEERS = ("timm ViT, registers, mean pool", "Hugging Face SigLIP", "timm Swin")


def own_model(**parts):
    model = tiny_vit(img_size=(16, 24), **parts)
    return attach_record(model, ModelRecord(CLASSES, Preprocessing((16, 24), 0.9, "bilinear")))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return explored(own_model(), tmp_path_factory.mktemp("similarity"))


@pytest.fixture
def page(opened, found):
    return start(opened, found.page, "#direction=similar&token=1,2&layer=1", viewport=DESK).page


@pytest.mark.parametrize("name", ["ours", *PEERS])
def test_similarities_are_those_of_pytorch_at_every_place(opened, tmp_path, name):
    if name == "ours":
        model = own_model()
    else:
        from peers import PEERS as EVERY

        peer = EVERY[name]()
        preprocessing = Preprocessing(peer.size, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
        classes = tuple(f"class {each}" for each in range(5 * peer.classes))
        model = attach_record(peer.model, ModelRecord(classes, preprocessing))
    made = explored(model, tmp_path)
    one = start(opened, made.page, "#direction=similar&token=0,1", viewport=DESK)
    images = batch_of([photograph()], model.preprocessing)
    script = """async ([layer, place]) => {
        await window.explorer.change({ layer, place });
        const { patches, row, column } = window.explorer.shown;
        return [[...patches], row, column, window.explorer.about];
    }"""
    compared = 0
    for layer in range(len(made.layers)):
        for side, place in enumerate(("before", "after")):
            values, row, column, about = one.page.evaluate(script, [layer, place])
            if about["tokens"][side] is None:
                assert np.isnan(np.array(values, float)).all()
                continue
            expected = similarity(model, images, (row, column), about["tokens"][side])[0]
            shown = np.array(values).reshape(expected.shape)
            error = one.page.evaluate("window.explorer.payload.tokenError")
            assert np.abs(shown - expected).max() <= error + 1e-5 <= 0.01 + 1e-5
            compared += 1
    assert compared >= 2 * len(made.layers) - 2 and one.complaints == []


def test_cls_is_compared_with_patches_and_patches_with_cls(page, found):
    model = own_model()
    with torch.no_grad():
        x = model.embed(batch_of([photograph()], model.preprocessing))
        for block in model.blocks[:2]:
            x = block(x)
    unit = torch.nn.functional.normalize(x[0].double(), dim=-1)
    expected = (unit @ unit.T).numpy()
    columns = page.evaluate("window.explorer.about.grid[1]")
    shown = page.evaluate("window.explorer.shown.others.map((other) => other.share)")
    assert shown[0] == pytest.approx(expected[1 + columns + 2, 0], abs=0.01)
    page.click(".tokens button")
    settled(page)
    patches = page.evaluate("[...window.explorer.shown.patches]")
    np.testing.assert_allclose(patches, expected[0, 1:], atol=0.01)
    assert page.inner_text(".title") == "What is similar to CLS"


def test_the_view_has_its_scale_words_and_address(opened, page, found):
    assert page.inner_text(".scale-labels").split("\n") == ["−1 opposite", "−0.5", "0", "0.5", "1 alike"]
    caption = page.inner_text(".caption")
    assert "after the block of layer 1 (blocks.1.attn): most similar is row" in caption
    assert "off by at most 0.0" in caption and "uniform" not in caption
    page.click("text=Before the block")
    settled(page)
    assert (state(page)["direction"], state(page)["tokens"]) == ("similar", "before")
    stage(page).hover(position=at(page, 1, 2))
    assert page.inner_text(".readout").startswith("row 1, column 2 has similarity 1.00")
    again = start(opened, found.page, page.evaluate("location.hash"), viewport=DESK).page
    assert again.inner_text(".caption") == page.inner_text(".caption")
    page.focus(".stage")
    page.keyboard.press("d")
    settled(page)
    assert state(page)["direction"] == "to" and "1× uniform" in page.inner_text(".scale-labels")
    assert not page.locator("text=Before the block").is_visible()


def test_colours_are_those_of_all_similarities(page):
    """The canvas of one layer at a glance has the scale's ends where similarities are 1."""
    script = """() => {
        const palette = window.explorer.painter.palette;
        return [-1, 0, 1].map((value) => palette.colours[palette.numberOf(value)].join());
    }"""
    from vitral.report.colours import DIVERGING

    ends = [",".join(str(round(255 * part)) for part in DIVERGING(place)[:3]) for place in (0.0, 0.5, 1.0)]
    assert page.evaluate(script) == ends


def test_every_layer_has_its_small_map_and_heads_have_none(page):
    page.clock.resume()  # layers are unpacked one after another
    until(page, "window.explorer.image.layers.every((layer, place) => window.explorer.layerMap(place))")
    maps = page.evaluate("[0, 1, 2].map((place) => [...window.explorer.layerMap(place).values])")
    assert not np.isnan(np.array(maps, float)).any()
    assert not page.locator(".heads").is_visible()


def test_the_picture_has_the_scale_of_similarities(page, tmp_path):
    with page.expect_download() as download:
        page.click("text=Save as PNG")
    download.value.save_as(tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as picture:
        assert picture.format == "PNG" and picture.width > 900


def test_the_position_table_is_the_reports(page):
    model = own_model()
    table = model.pos_embed.detach()[0, 1:].unflatten(0, model.grid).numpy()
    expected = cosine_similarity(table)[1, 2].ravel()
    panel = "window.explorer.panels.find((panel) => panel.constructor.name === 'PositionTable')"
    until(page, f"{panel}.values !== undefined")
    np.testing.assert_allclose(page.evaluate(f"[...{panel}.values]"), expected, atol=0.01)
    assert "Position in row 1, column 2: most similar is" in page.inner_text(".positions .readout")
    page.click(".tokens button")
    settled(page)
    until(page, "document.querySelector('.positions .readout').textContent.startsWith('This token')")
    assert "the patch in the middle is shown" in page.inner_text(".positions .readout")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (dict(mixer=RotaryAttention, position=NoPosition), "Its positions are rotary"),
        (dict(position=SinCosPosition), "fixed sines and cosines"),
        (dict(position=NoPosition), "It adds no position embedding"),
    ],
    ids=["rotary", "fixed", "none"],
)
def test_a_model_without_a_learned_table_has_the_reason(opened, tmp_path, parts, words):
    one = start(opened, explored(own_model(**parts), tmp_path).page, viewport=DESK)
    assert words in one.page.inner_text(".positions") and one.complaints == []
    assert one.page.locator(".positions canvas").count() == 0


@pytest.mark.parametrize(("viewport", "scheme"), [(PHONE, "dark"), (DESK, "light")], ids=["phone", "desk"])
def test_similarity_has_no_barriers_and_fits(opened, found, viewport, scheme):
    page = start(opened, found.page, "#direction=similar&token=0,1", viewport=viewport, color_scheme=scheme).page
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.clock.resume()
    checked = Axe().run(page)
    assert checked.violations_count == 0, checked.generate_report()
