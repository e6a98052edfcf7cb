"""The explorer in its three hosts, by the same assertions: a file, a local page, and a notebook's widget.

The notebook is marimo's own server, with the widget as anywidget makes it.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

import vitral
from explored import explored_vit
from until import until
from vitral.data.preprocess import batch_of
from vitral.explain.observation import observe
from vitral.tasks.explore_live import explore_locally

HOSTS = ("file", "live", "notebook")
WINDOW = {"width": 1280, "height": 900}
TESTS = Path(__file__).parents[1]
WAIT = 120_000  # milliseconds at most; a notebook's kernel has to start
QUERY = (1, 2)  # a row and column of patches
NOTEBOOK = """
import marimo

app = marimo.App()


@app.cell
def _():
    from explored import explored_vit

    import vitral

    vitral.explore_live(explored_vit(), {images!r})
    return
"""


@pytest.fixture(scope="module")
def photo():
    noise = np.random.default_rng(0).integers(0, 90, (60, 90, 3))
    return (noise + np.linspace(0, 160, 90)[None, :, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory, photo):
    """Two photographs as files."""
    folder = tmp_path_factory.mktemp("images")
    for name, pixels in (("first.png", photo), ("second.png", photo[:, ::-1])):
        Image.fromarray(pixels).save(folder / name)
    return [str(folder / "first.png"), str(folder / "second.png")]


@pytest.fixture(scope="module")
def weights(photo):
    """The weights of each layer, (heads, queries, keys), as `watch` gives them."""
    observation = observe(explored_vit(), batch_of([photo], explored_vit().preprocessing))
    return [layer.weights()[0].detach().double().numpy() for layer in observation.layers]


@pytest.fixture(scope="module", params=HOSTS)
def host(request):
    return request.param


@pytest.fixture(scope="module")
def place(request, host, images, tmp_path_factory):
    """Where the explorer is, for a browser."""
    folder = tmp_path_factory.mktemp(host)
    if host == "file":
        yield vitral.explore(explored_vit(), images, out=folder / "page.html").page
    elif host == "live":
        with explore_locally(explored_vit(), images, port=0) as page:
            threading.Thread(target=page.serve_forever, daemon=True).start()
            yield page.address
            page.shutdown()
    else:
        (folder / "notebook.py").write_text(NOTEBOOK.format(images=images))
        yield from run_notebook(folder)


def run_notebook(folder):
    """The address of a notebook that marimo runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-q", "run", "notebook.py", "--headless", "--no-token", "--host", "127.0.0.1", "--port", port]
    path = os.pathsep.join([str(TESTS), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-m", "marimo", *map(str, words)], cwd=folder, env=os.environ | {"PYTHONPATH": path}
    )
    try:
        for _ in range(600):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def window(new_window, place):
    """One window per host; time passes in it by itself."""
    one = new_window(place, has_clock=False, viewport=WINDOW)
    one.page.set_default_timeout(WAIT)
    one.page.wait_for_selector("#explorer[aria-busy=false]")
    yield one
    one.context.close()


@pytest.fixture
def page(window):
    """With the first view."""
    window.page.mouse.move(1, 1)
    see(
        window.page,
        {"image": 0, "layer": 2, "head": "mean", "token": {"name": "cls"}, "direction": "to", "show": "map"},
    )
    return window.page


def see(page, view):
    """Show a view, and wait until it is drawn."""
    script = "async (host, view) => { host.explorer.isHeld = false; await host.explorer.change(view); }"
    page.locator("#explorer").evaluate(script, view)


def patch(row, column):
    return {"y": (row + 0.5) / 4, "x": (column + 0.5) / 4}


def shown(page):
    """The values of the map, and those of the tokens that are no patches."""
    script = "({ explorer }) => [[...explorer.shown.patches], explorer.shown.others.map((other) => other.share)]"
    return tuple(np.array(values, float) for values in page.locator("#explorer").evaluate(script))


def expected(weights, direction, token, head):
    """The same from the weights of a layer: multiples of uniform, and shares. CLS is the first token."""
    some = weights if head == "mean" else weights[head : head + 1]
    if direction == "to":
        row = some.mean(axis=0)[token]
        return row[1:] * 16 / row[1:].sum(), row[:1]
    of_patches = some[:, 1:, token].mean(axis=0) * 16 / some[:, 1:, 1:].sum(axis=-1).mean(axis=0)
    return of_patches, some[:, 0, token].mean(axis=0, keepdims=True)


def title_is(page, words):
    until(
        page,
        "([host, words]) => host.querySelector('.title').textContent.includes(words)",
        arg=[page.locator("#explorer").element_handle(), words],
    )


@pytest.mark.parametrize("head", ["mean", 0, 3])
@pytest.mark.parametrize("direction", ["to", "from"])
def test_the_values_shown_are_those_of_watch(page, host, weights, direction, head):
    for layer, here in enumerate(weights):
        peak = (here[:, 1:, 1:] * 16 / here[:, 1:, 1:].sum(axis=-1, keepdims=True)).max()
        error = 2 / 250 * peak if host == "file" else 1e-3  # stored weights differ by a share of their row's largest
        for token, chosen in ((0, {"name": "cls"}), (1 + 4 * QUERY[0] + QUERY[1], patch(*QUERY))):
            see(page, {"layer": layer, "head": head, "token": chosen, "direction": direction})
            for values, wanted in zip(shown(page), expected(here, direction, token, head)):
                np.testing.assert_allclose(values, wanted, rtol=1e-3, atol=error)


def test_pointing_at_a_patch_shows_it_and_leaving_shows_the_first_again(page):
    stage = page.locator(".stage canvas")
    box = stage.bounding_box()
    stage.hover(position={"x": box["width"] * 2.5 / 4, "y": box["height"] * 1.5 / 4})
    title_is(page, "What the patch in row 1, column 2 attends to")
    page.mouse.move(1, 1)
    title_is(page, "What CLS attends to")


def test_keys_move_the_patch_and_change_layer_head_and_direction(page):
    page.focus(".stage")
    for key, words in (("ArrowRight", "What the patch in row 1, column 2"), ("d", "What attends to the patch")):
        page.keyboard.press(key)
        title_is(page, words)
    for key in (",", "h"):
        page.keyboard.press(key)
    caption = page.locator(".caption")
    caption.filter(has_text="in layer 1 (blocks.1.attn), head 0").wait_for()
    page.keyboard.press("Escape")


def test_arrow_keys_move_among_the_small_maps(page):
    page.focus(".heads [role=radio][aria-checked=true]")
    page.keyboard.press("ArrowRight")
    page.locator(".caption").filter(has_text="head 0").wait_for()


def test_every_layer_has_a_small_map_of_the_view(page):
    see(page, {"token": patch(3, 3), "direction": "from", "image": 1})
    until(
        page,
        "(host) => !host.querySelector('.waiting') && [...host.querySelectorAll('.layers canvas')].every((canvas) => "
        "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.every((value, at) => "
        "at % 4 < 3 || value > 250))",
        arg=page.locator("#explorer").element_handle(),
    )
    assert "second.png" in page.inner_text(".about-image")


def test_the_view_is_kept_where_the_host_keeps_it(page, host):
    see(page, {"token": patch(*QUERY), "layer": 1})
    page.wait_for_timeout(600)
    words = page.locator("#explorer").evaluate("({ explorer }) => explorer.memory.read()")
    assert "token=1%2C2" in words and "layer=1" in words
    assert ("token=1%2C2" in page.url) == (host != "notebook")


def test_it_has_no_barriers_for_readers_with_other_means(page, host):
    page.click("summary")
    checked = Axe().run(page).response["violations"]
    page.click("summary")
    own = [(one["id"], node["html"]) for one in checked for node in one["nodes"] if host != "notebook" or is_own(node)]
    assert own == []


def is_own(node):
    """Whether a part of the notebook's page is the explorer's: below its own tree."""
    return any("data-lm-suppress-shortcuts" in str(target) or "vitral" in str(target) for target in node["target"])


def test_styles_stay_inside_of_the_notebook_s_cell(page, host):
    if host != "notebook":
        pytest.skip("The other hosts are whole pages.")
    probe = """() => {
        const node = document.createElement("div");
        node.className = "columns vitral-explorer answers stage";
        document.body.append(node);
        const style = getComputedStyle(node);
        const found = [style.display, style.cursor, style.getPropertyValue("--accent-of-vitral"), style.maxWidth];
        node.remove();
        return [...found, getComputedStyle(document.body).containerType];
    }"""
    assert page.evaluate(probe) == ["block", "auto", "", "none", "normal"]


def test_nothing_is_fetched_elsewhere_and_nothing_is_wrong(window, place):
    """After all that was done before."""
    own = place if isinstance(place, str) else place.as_uri()
    assert [url for url in window.requests if not url.startswith(("data:", "blob:", own))] == []
    assert [words for words in window.complaints if not words.startswith(TALK)] == [] and window.dialogs == []


# What marimo's page prints of itself.
TALK = (
    "Starting a new session",
    "Initializing runtime",
    "Reporting vitals",
    "Runtime is healthy",
    "The resource http",
    "%c [Metric",
)


def test_similar_tokens_positions_and_the_model_itself_are_in_every_host(page):
    see(page, {"token": patch(1, 2), "direction": "similar"})
    page.locator(".caption").filter(has_text="What is similar to the patch in row 1, column 2").first.wait_for()
    patches, _ = shown(page)
    assert patches[1 * 4 + 2] == pytest.approx(1, abs=0.01) and patches.min() >= -1
    page.locator(".break-it").filter(has_text="PyTorch's outputs are those of this page").wait_for()
    page.locator(".break-it button", has_text="Block 1").click()
    page.locator(".break-it .said").filter(has_text="block 1").wait_for()
    page.locator(".break-it button", has_text="Repair all").click()
    page.locator(".positions .readout").filter(has_text="Position in row 1, column 2").wait_for()
