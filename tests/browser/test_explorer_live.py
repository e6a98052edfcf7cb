"""What only a live host has: weights that come late, or not at all, and every kind of layer, computed when asked."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest

from explored import explored_vit
from peers import PEERS
from until import until
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.tasks.explore_live import explore_locally

PHOTO = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@contextmanager
def served(model):
    """A local page of a photograph, whose server ends with the block."""
    page = explore_locally(model, PHOTO, port=0)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    try:
        yield page
    finally:
        page.shutdown()
        page.server_close()


def opened_at(new_window, address):
    one = new_window(address, has_clock=False, viewport={"width": 1280, "height": 900})
    one.page.wait_for_selector("#explorer[aria-busy=false]")
    return one


def point(page, row, column):
    stage = page.locator(".stage canvas")
    box = stage.bounding_box()
    stage.hover(position={"x": box["width"] * (column + 0.5) / 4, "y": box["height"] * (row + 0.5) / 4})


def test_while_the_model_computes_the_old_map_fades_and_only_the_last_one_is_asked_for(new_window):
    with served(explored_vit()) as server:
        window = opened_at(new_window, server.address)
        page = window.page
        until(page, "!document.querySelector('.waiting')")
        may_answer, asked, answer = threading.Event(), [], server.source.answer

        def slowly(question):
            asked.append((question["layer"], int(question["token"])))
            may_answer.wait(30)
            return answer(question)

        server.source.answer = slowly
        for column in range(4):
            point(page, 1, column)
        page.wait_for_selector(".stage.waiting")
        page.locator(".readout").filter(has_text="The model is computing these weights.").wait_for()
        assert "What CLS attends to" in page.inner_text(".title")  # of the map that still stands there
        may_answer.set()
        page.locator(".title").filter(has_text="the patch in row 1, column 3").wait_for()
        assert page.locator(".stage.waiting").count() == 0
        of_the_view = [token for layer, token in asked if layer == "2"]
        assert of_the_view == [5, 8]  # the first, and the last of those that waited
        window.context.close()


def test_a_server_that_has_ended_is_named(new_window):
    with served(explored_vit()) as server:
        window = opened_at(new_window, server.address)
        until(window.page, "!document.querySelector('.waiting')")
        window.page.route("**/weights*", lambda route: route.abort())  # as when nobody listens any more
    point(window.page, 1, 2)
    window.page.locator(".readout").filter(has_text="Is vitral explore --live still running?").wait_for()
    assert "What CLS attends to" in window.page.inner_text(".title")
    assert window.page.locator(".stage.waiting").count() == 1
    window.context.close()


@pytest.mark.parametrize("name", ["timm Swin", "Hugging Face SigLIP"])
def test_both_directions_show_the_same_values(new_window, name):
    """Of windows, in which a patch attends to its own only; and of a pool, whose query is not a token."""
    peer = PEERS[name]()
    preprocessing = Preprocessing(peer.size, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
    classes = tuple(f"class {each}" for each in range(5 * peer.classes))
    with served(attach_record(peer.model, ModelRecord(classes, preprocessing))) as server:
        window = opened_at(new_window, server.address)
        script = """async (host) => {
            const source = host.explorer.source;
            const found = [];
            for (const [place, about] of source.payload.images[0].layers.entries()) {
                const layer = source.layer(0, place);
                const own = layer.queryNames.length;
                const keys = layer.windows ? layer.numPatches : about.keys;
                const outgoing = [], incoming = [];
                for (const query of layer.queries) {
                    await source.compute(layer, "to", query);
                    outgoing.push([...layer.row(1, query)]);
                }
                for (let key = 0; key < keys; key += 1) {
                    await source.compute(layer, "from", key);
                    const { patches, others } = layer.incoming(1, key);
                    incoming.push([...others, ...patches]);
                }
                const windowOf = [...(layer.windowOf ?? [])];
                const windows = layer.windows?.places;
                found.push({ outgoing, incoming, own, windows, windowOf, prefix: about.prefix.length });
            }
            return found;
        }"""
        for layer in window.page.locator("#explorer").evaluate(script):
            outgoing, incoming = np.array(layer["outgoing"], float), np.array(layer["incoming"], float)
            for key, column in enumerate(incoming):
                expected = column_of(layer, outgoing, key)
                np.testing.assert_allclose(column[: len(expected)], expected, rtol=2e-3, atol=1e-5)
        assert window.complaints == []
        window.context.close()


def column_of(layer, rows, key):
    """What each query gives a key, from all rows: shares from others, multiples of uniform from patches."""
    if layer["windows"] is None:
        multiples = rows[:, key] / rows[:, layer["prefix"] :].sum(axis=1) * (rows.shape[1] - layer["prefix"])
        own = layer["own"]
        return np.concatenate([rows[:own, key], multiples[own:]])
    expected = np.full(len(rows), np.nan)
    for query, row in enumerate(rows):
        places = layer["windows"][layer["windowOf"][query]]
        if key in places:
            real = [at for at, patch in enumerate(places) if patch >= 0]
            expected[query] = row[places.index(key)] / row[real].sum() * len(real)
    return expected
