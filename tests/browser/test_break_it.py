"""Break it: the page runs the model itself, and with parts missing it answers what PyTorch and `watch` answer."""

import re
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from test_explorer import DESK, PHONE, explored, settled, start, state

import vitral
from tiny import redraw, tiny_vit
from until import until
from vitral.base.calibration import Calibration
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import normalise
from vitral.explorer.breaking import Break, broken_output
from vitral.nn.attention import Attention
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.family.mlp import TanhMLP
from vitral.nn.family.pool import MeanPool
from vitral.nn.family.position import NoPosition, PatchPosition, SinCosPosition
from vitral.store.numbers_head import add_numbers_head

SEEN = Preprocessing((16, 24), 0.9, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
REGISTERS = dict(tokens={"cls_token": 1, "reg_token": 2}, block=ScaledBlock, position=PatchPosition)
NO_TOKENS = dict(tokens={}, pool=MeanPool, position=SinCosPosition, mlp=TanhMLP)
MODELS = {
    "plain": {},
    "registers, LayerScale": REGISTERS,
    "mean of patches, fixed positions, no bias": NO_TOKENS | dict(mixer=partial(Attention, qkv_bias=False)),
    "one channel": dict(in_channels=1),
    "queries and keys normalized, no positions": dict(mixer=QKNormAttention, position=NoPosition),
}
BREAKS = (
    dict(blocks=[1]),
    dict(heads=["0-3", "2-1"]),
    dict(positions="zero"),
    dict(positions="shuffled"),
    dict(patches="shuffled", seed=4),
    dict(cutsCls=True),
    dict(blocks=[0], heads=["1-1"], positions="shuffled", patches="shuffled", cutsCls=True, seed=2),
)
PANEL = "window.explorer.panels.find((panel) => panel.constructor.name === 'BreakIt')"


def own_model(**parts):
    model = tiny_vit(img_size=(16, 24), **parts)
    seen = replace(SEEN, mean=(0.5,), std=(0.2,)) if parts.get("in_channels") == 1 else SEEN
    return attach_record(model, ModelRecord(("circle", "square", "<b>", "triangle", "ring"), seen))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return explored(own_model(), tmp_path_factory.mktemp("break-it"), 2)


@pytest.fixture
def page(opened, found):
    return ready(start(opened, found.page, viewport=DESK).page)


def ready(page):
    until(page, f"{PANEL}.outputs !== undefined")
    return page


def broken(page, **parts):
    """The outputs of the page with these parts missing, and the order of patches."""
    whole = dict(blocks=[], heads=[], positions="learned", patches="in place", cutsCls=False, seed=1)
    script = f"""async (broken) => {{
        const panel = {PANEL};
        panel.change(broken);
        await window.explorer.render();
        await panel.done;
        return [[...panel.outputs], panel.broken.order];
    }}"""
    return page.evaluate(script, whole | parts)


def as_break(order, blocks=(), heads=(), positions="learned", patches="in place", cutsCls=False, seed=1):
    return Break(
        tuple(blocks),
        tuple(tuple(map(int, head.split("-"))) for head in heads),
        positions,
        patches,
        cutsCls,
        tuple(order),
    )


def seen_pixels(page):
    """The pixels that the page runs the model on."""
    script = "async () => [...await window.explorer.source.content(window.explorer.image.input)]"
    return np.array(page.evaluate(script), np.uint8)


@pytest.mark.parametrize("name", [*MODELS, "the demo's"])
def test_the_page_answers_what_pytorch_does_with_the_same_weights(opened, tmp_path, name):
    if name == "the demo's":
        model = redraw(vitral.create("vit_nano_patch8_48", num_classes=8), deviation=0.1)
        attach_record(model, ModelRecord(tuple("abcdefgh"), Preprocessing((48, 48), 0.9, "bicubic")))
    else:
        model = own_model(**MODELS[name])
    made = explored(model, tmp_path)
    one = start(opened, made.page, viewport=DESK)
    page = ready(one.page)
    rounded = deepcopy(model).half().float()
    pixels = seen_pixels(page).reshape(1, *model.preprocessing.size, 3)
    images = normalise(torch.from_numpy(pixels), model.preprocessing)
    expected = [broken_output(rounded, images, Break())]
    actual = [broken(page)[0]]
    for parts in BREAKS:
        own = dict(parts)
        if model.cls_token is None:
            own["cutsCls"] = False
        outputs, order = broken(page, **own)
        if model.pos_embed is None and not hasattr(model.position, "fixed"):
            own.pop("positions", None)  # there are none that could be missing
        expected.append(broken_output(rounded, images, as_break(order, **own)))
        actual.append(outputs)
    expected = torch.cat(expected).numpy()
    assert np.abs(np.array(actual) - expected).max() < 1e-4
    assert np.abs(expected[1:] - expected[0]).max(axis=1).min() > 1e-3 or name.startswith(("mean", "queries"))
    with torch.no_grad():
        drift = float((model(images) - rounded(images)).abs().max())
    assert page.evaluate("window.explorer.payload.models[0].network.drift") == pytest.approx(drift, rel=1e-3)
    assert one.complaints == []


def test_the_demos_model_has_its_weights_in_less_than_1_2_megabytes(tmp_path):
    model = attach_record(
        redraw(vitral.create("vit_nano_patch8_48", num_classes=8)),
        ModelRecord(tuple("abcdefgh"), Preprocessing((48, 48))),
    )
    made = explored(model, tmp_path)
    assert 'id="weights-0"' in made.page.read_text(encoding="utf-8") and made.size < 1_200_000


def test_probabilities_are_those_of_the_models_temperature(opened, tmp_path):
    model = own_model()
    calibration = Calibration(100, 2.5)
    attach_record(model, ModelRecord(model.classes, SEEN, calibration=calibration))
    page = ready(start(opened, explored(model, tmp_path).page, viewport=DESK).page)
    outputs = torch.tensor(broken(page)[0], dtype=torch.float64)
    first = (outputs / 2.5).softmax(dim=0)
    shown = page.locator(".break-it tbody tr .value:nth-of-type(2)").all_inner_texts()
    assert shown == [f"{100 * value:.{0 if value >= 0.095 else 1}f} %" for value in first.tolist()]


@pytest.mark.parametrize("task", ["several classes", "numbers"])
def test_other_tasks_have_their_own_values(opened, tmp_path, task):
    """Each class has a probability of its own; numbers are shown as they are, in their unit."""
    model = tiny_vit(img_size=(16, 24), num_classes=2)
    thresholds = (0.5, 0.5) if task == "several classes" else None
    if task == "numbers":
        head = add_numbers_head(model, 2)
        head.unit_mean.copy_(torch.tensor([70.0, 1_000.0]))
        head.unit_std.copy_(torch.tensor([3.0, 20.0]))
    attach_record(model, ModelRecord(("one", "other"), SEEN, task, thresholds))
    one = start(opened, explored(model, tmp_path).page, viewport=DESK)
    page = ready(one.page)
    outputs = torch.tensor(broken(page, blocks=[1])[0], dtype=torch.float64)
    shown = page.locator(".break-it tbody tr .value:nth-of-type(2)").all_inner_texts()
    if task == "numbers":
        expected = [float(value) for value in outputs]
        assert [float(text) for text in shown] == pytest.approx(expected, rel=1e-3) and expected[1] > 500
    else:
        values = outputs.sigmoid().tolist()
        assert shown == [f"{100 * value:.{0 if value >= 0.095 else 1}f} %" for value in values]
    assert one.complaints == []


def test_a_press_leaves_a_part_out_and_the_link_opens_the_same(opened, found, page):
    before = page.inner_text(".break-it .said")
    assert before.startswith("With all parts: ")
    page.click("[aria-label='Leave out block 1']")
    page.click("[aria-label='Leave out head 2 of block 0']")
    page.click(".break-it [aria-label=Patches] >> text=Shuffled")
    page.click("text=Cut CLS off")
    settled(page)
    page.evaluate(f"{PANEL}.done")
    assert state(page)["broken"] == "b1.h0-2.ts.c"
    said = page.inner_text(".break-it .said")
    assert said.startswith(
        "Without block 1, head 2 of block 0, the order of patches, what CLS gets from other tokens: "
    )
    assert page.locator(".break-it canvas:visible").count() == 1
    page.click("text=Another order")
    settled(page)
    again = ready(start(opened, found.page, page.evaluate("location.hash"), viewport=DESK).page)
    assert state(again)["broken"] == "b1.h0-2.ts.c.o2"
    assert again.evaluate(f"[...{PANEL}.outputs]") == page.evaluate(f"[...{PANEL}.outputs]")
    page.click("text=Repair all")
    settled(page)
    page.evaluate(f"{PANEL}.done")
    assert page.inner_text(".break-it .said") == before and "broken" not in state(page)


def test_another_image_is_broken_in_the_same_way(page):
    outputs, _ = broken(page, blocks=[0])
    page.click("text=1.png")
    settled(page)
    page.evaluate(f"{PANEL}.done")
    assert state(page)["broken"] == "b0" and page.evaluate(f"[...{PANEL}.outputs]") != outputs


def test_the_order_of_patches_needs_positions_to_matter(page):
    zero, _ = broken(page, positions="zero")
    both, order = broken(page, positions="zero", patches="shuffled", seed=3)
    assert np.abs(np.array(zero) - both).max() < 1e-9 and sorted(order) == list(range(len(order)))
    assert broken(page, patches="shuffled", seed=5)[1] != order


def test_words_of_an_address_that_do_not_fit_are_passed_over(opened, found):
    one = start(opened, found.page, "#broken=b9.h0-77.<b>.o0.b2.zz", viewport=DESK)
    ready(one.page)
    assert one.page.inner_text(".break-it .said").startswith("Without block 2: ") and one.complaints == []


def test_arrow_keys_move_among_blocks_and_heads(page):
    page.focus("[aria-label='Leave out block 0']")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Space"):
        page.keyboard.press(key)
    settled(page)
    assert state(page)["broken"] == "h1-1"


def test_a_page_whose_forward_pass_differs_says_so_and_shows_no_answer(opened, found, tmp_path):
    text = found.page.read_text(encoding="utf-8")
    wrong = re.sub(r'"outputs":\[', '"outputs":[9', text)
    (tmp_path / "wrong.html").write_text(wrong, encoding="utf-8")
    page = start(opened, tmp_path / "wrong.html", viewport=DESK).page
    until(page, "document.querySelector('.said').textContent")
    assert "differs from PyTorch's" in page.inner_text(".break-it .said")
    assert page.locator(".break-it button:visible").count() == 0


def test_a_model_that_is_not_ours_has_the_reason(opened, tmp_path):
    from peers import PEERS

    peer = PEERS["timm ViT, registers, mean pool"]()
    preprocessing = Preprocessing(peer.size, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
    model = attach_record(peer.model, ModelRecord(tuple("abcde"), preprocessing))
    one = start(opened, explored(model, tmp_path).page, viewport=DESK)
    assert "this model is a VisionTransformer of another library" in one.page.inner_text(".break-it")
    assert one.page.locator(".break-it button").count() == 0 and one.complaints == []


@pytest.mark.parametrize(("viewport", "scheme"), [(PHONE, "light"), (DESK, "dark")], ids=["phone", "desk"])
def test_the_panel_has_no_barriers_and_fits(opened, found, viewport, scheme):
    page = ready(start(opened, found.page, "#broken=b0.h1-1.ts.c", viewport=viewport, color_scheme=scheme).page)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.clock.resume()
    checked = Axe().run(page)
    assert checked.violations_count == 0, checked.generate_report()
