"""The notebook's widget as Python sees it: its answers, its view, and what an exported notebook keeps."""

import re
import sys

import IPython.display
import numpy as np
import pytest

import vitral
from explored import explored_vit
from vitral.base.errors import ConfigError


@pytest.fixture(scope="module")
def widget():
    photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return vitral.explore_live(explored_vit(), photo, view="token=1,2&layer=1")


@pytest.fixture
def sent(widget, monkeypatch):
    """What the widget sends to its page."""
    messages = []
    monkeypatch.setattr(widget, "send", lambda content, buffers=None: messages.append((content, buffers)))
    return messages


QUESTION = {"id": "a 1", "image": 0, "layer": 1, "direction": "to", "token": 3}


def test_a_question_is_answered_under_its_own_name(widget, sent):
    widget.reply(widget, QUESTION, [])
    ((content, (weights,)),) = sent
    assert content == {"id": "a 1"}
    np.testing.assert_allclose(np.frombuffer(weights, "<f4").reshape(4, 17).sum(axis=1), 1, atol=1e-5)


def test_a_wrong_question_is_answered_in_words(widget, sent):
    widget.reply(widget, QUESTION | {"token": 99}, [])
    ((content, buffers),) = sent
    assert content["id"] == "a 1" and "has no query 99" in content["error"] and buffers is None


def test_the_page_gets_the_payload_the_view_and_styles_in_pixels(widget):
    state = widget.get_state()
    assert state["content"]["payload"]["live"] is True and state["view"] == "token=1,2&layer=1"
    assert "font-size" in state["sheet"] and not re.search(r"[\d.]rem\b", state["sheet"])
    assert "export default" in state["_esm"] and "_css" not in state
    assert not re.search(r"\bfetch\(|https?:|innerHTML", state["_esm"])


def test_an_exported_notebook_keeps_still_pictures(widget, monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, metadata=None, raw=False: shown.append(data))
    widget._ipython_display_()
    still, live = shown
    assert 'src="data:image/webp' in still["text/html"] and "what CLS attends to" in still["text/html"]
    assert widget.content["still"] in still["text/html"] and "what CLS attends to" in still["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in live


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "vitral.explorer.live.widget", raising=False)
    with pytest.raises(ConfigError, match=r"needs anywidget: pip install 'vitral\[notebook\]'"):
        vitral.explore_live(explored_vit(), np.zeros((16, 24, 3), np.uint8))
