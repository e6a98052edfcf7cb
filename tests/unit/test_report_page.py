"""The report is one file that needs nothing but itself, and in which every text is text."""

import base64
import re
from html.parser import HTMLParser

import pytest

from vitral.report.page import Page, Picture, Section

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ page }}</script><!--"
CONTENT = b"\x89PNG\r\n\x1a\n-a-picture"


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        self.tags.append("comment")


def page(text="plain", film=2):
    return Page(
        title=text,
        headline=text,
        detail=text,
        facts={text: text, "n": "3"},
        sections=[
            Section(text, text, [Picture(CONTENT, text, text), Picture(CONTENT, text, "")]),
            Section("two", "words"),
        ],
        settings={text: text, "epochs": 3, "nothing": None},
        commands=[(text, text)],
        repeat=text,
        film=[(CONTENT + bytes([frame]), text) for frame in range(film)],
    )


def test_nothing_in_a_text_becomes_a_tag():
    plain, hostile = Reader(page().html()), Reader(page(HOSTILE).html())
    assert hostile.tags == plain.tags
    assert [name for name, _ in hostile.attributes] == [name for name, _ in plain.attributes]


def test_every_text_is_shown_as_it_was_given():
    reader = Reader(page(HOSTILE).html())
    assert "".join(reader.text).count(HOSTILE) == 15
    assert [value for name, value in reader.attributes if name == "alt"].count(HOSTILE) == 2


def test_a_text_in_the_films_script_cannot_end_the_script():
    html = page(HOSTILE).html()
    script = html[html.index("<script>") + 8 : html.rindex("</script>")]
    assert "<" not in script.partition("];\n")[0]
    assert html.count("</script>") == 1
    assert "alert(1)\\u003c/script\\u003e" in script


def test_the_page_needs_no_other_file():
    html = page().html()
    names = ("src", "href", "action", "data", "srcset")
    addresses = [value for name, value in Reader(html).attributes if name in names]
    assert len(addresses) == 3
    assert all(address.startswith(("data:image/png;base64,", "data:image/webp;base64,")) for address in addresses)
    assert not re.findall(r"https?://|@import|url\(|//cdn", html)
    assert "default-src 'none'" in html


def test_pictures_are_inside():
    html = page().html()
    assert html.count(base64.b64encode(CONTENT).decode()) >= 2
    for frame in range(2):
        assert base64.b64encode(CONTENT + bytes([frame])).decode() in html


def test_without_a_film_there_is_no_script():
    html = page(film=0).html()
    assert "<script" not in html
    assert "film-controls" not in html.partition("<body>")[2]


def test_the_film_starts_at_its_last_frame_and_has_a_place_for_each():
    reader = Reader(page(film=5).html())
    assert "".join(reader.text).count("data:image/webp") == 5
    last = base64.b64encode(CONTENT + bytes([4])).decode()
    assert next(value for name, value in reader.attributes if name == "src").endswith(last)


def test_every_picture_says_what_it_shows():
    reader = Reader(page().html())
    assert reader.tags.count("img") == sum(name == "alt" and bool(value) for name, value in reader.attributes) == 3
    assert ("lang", "en") in reader.attributes


@pytest.mark.parametrize("words", ["title", "headline", "facts", "settings", "commands", "repeat"])
def test_the_page_holds_each_thing_it_is_given(words):
    given = page()
    marked = {"title": "MARK", "headline": "MARK", "repeat": "MARK", "commands": [("MARK", "x")]}
    value = marked.get(words, {"MARK": "x"})
    assert "MARK" in Page(**vars(given) | {words: value}).html()
