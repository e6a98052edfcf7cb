"""The pages of studies in a browser: from the summary to a study and back, on a desktop and on a phone."""

import pytest

from vitral.cli import main

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def summary(tmp_path_factory):
    """The summary page of two studies that were run as `smoke`."""
    folder = tmp_path_factory.mktemp("studies")
    words = ("study", "run", "locality", "attention_cost", "--preset", "smoke", "--out", str(folder))
    assert main(words) == 0
    return folder / "smoke" / "index.html"


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("name", ["index", "locality", "attention_cost"])
def test_a_page_is_complete_and_does_not_scroll_sideways(opened, summary, name, viewport):
    path = summary.with_name(f"{name}.html")
    seen = opened(path, viewport=viewport)
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [path.as_uri()]
    page = seen.page
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    images = page.eval_on_selector_all("img", "all => all.map(i => [i.naturalWidth > 50, i.alt.length > 10])")
    assert all(all(one) for one in images) and bool(images) == (name != "index")
    assert page.locator("h1").count() == 1 and page.get_attribute("html", "lang") == "en"


def test_from_the_summary_to_a_study_and_back(opened, summary):
    page = opened(summary).page
    page.click("text=Locality")
    assert "Convolutions have locality built in" in page.inner_text("blockquote")
    text = page.inner_text("main")
    for words in ("Hypotheses and verdicts", "Method", "Published elsewhere", "vitral study run"):
        assert words.lower() in text.lower(), words
    page.click("text=The lecture, measured")
    assert page.url == summary.as_uri()


def test_on_a_phone_each_number_has_a_label(opened, summary):
    """The row of headings is hidden there."""
    page = opened(summary.with_name("locality.html"), viewport=PHONE).page
    labels = page.eval_on_selector_all(
        "td.number:not(:empty)", "all => all.map(cell => getComputedStyle(cell, '::before').content)"
    )
    assert labels and all("none" not in label for label in labels)
