"""The report as a person opens it: one file, nothing fetched, its film moving, all of it reachable by keyboard."""

import pytest

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(params=["report", "hostile"])
def either(request):
    return request.getfixturevalue(request.param)


def test_the_page_opens_without_a_complaint(opened, either):
    assert opened(either).complaints == []


def test_nothing_is_fetched_but_the_file_itself(opened, either):
    asked = opened(either).requests
    assert [url for url in asked if not url.startswith("data:")] == [either.as_uri()]


def test_every_image_is_there(opened, either):
    page = opened(either).page
    sizes = page.eval_on_selector_all("img", "images => images.map(i => [i.complete, i.naturalWidth, i.naturalHeight])")
    assert sizes and all(complete and width > 50 and height > 50 for complete, width, height in sizes)


def test_every_image_says_what_it_shows(opened, either):
    alts = opened(either).page.eval_on_selector_all("img", "images => images.map(i => i.alt)")
    assert all(len(alt) > 10 for alt in alts)
    assert len(set(alts)) == len(alts)


def test_what_was_trained_is_there_to_read(opened, report):
    text = opened(report).page.inner_text("main")
    for words in (
        "vit_nano_patch8_48 on shapes:n=64,size=16",
        "% right",
        "95% interval",
        "What CLS attends to".lower(),
        "How it learned",
        "The worst mistakes",
        "Next steps",
        "vitral explain",
        "vitral train --data shapes:n=64,size=16 --epochs 1.0 --batch-size 8",
    ):
        assert words.lower() in text.lower(), words


def test_the_page_has_one_title_and_a_language(opened, report):
    page = opened(report).page
    assert page.locator("h1").count() == 1 and page.title() == page.inner_text("h1")
    assert page.get_attribute("html", "lang") == "en"


def film(page):
    """The slider's place, the picture, its description, and the words beside it."""
    return page.evaluate(
        "() => [+document.querySelector('.film input').value, document.getElementById('frame').src, "
        "document.getElementById('frame').alt, document.querySelector('.film output').textContent]"
    )


@pytest.fixture
def page(opened, report):
    return opened(report, viewport=DESK).page


def last(page):
    return int(page.get_attribute(".film input", "max"))


def test_the_film_opens_at_its_last_frame(page):
    place, _, alt, words = film(page)
    assert place == last(page) == 8
    assert words == "step 8" and words in alt


def test_the_slider_moves_the_picture_and_the_words(page):
    seen = []
    page.focus(".film input")
    page.keyboard.press("Home")
    for number in range(last(page) + 1):
        place, picture, alt, words = film(page)
        assert place == number and words in alt
        seen.append((picture, words))
        page.keyboard.press("ArrowRight")
    assert len({picture for picture, _ in seen}) == len({words for _, words in seen}) == last(page) + 1
    assert seen[0][1] == "step 0"
    assert page.evaluate("document.getElementById('frame').decode().then(() => true)")


def test_the_slider_follows_the_mouse(page):
    box = page.locator(".film input").bounding_box()
    page.click(".film input", position={"x": 3, "y": box["height"] / 2})
    assert film(page)[0] == 0
    page.click(".film input", position={"x": box["width"] / 2, "y": box["height"] / 2})
    assert 0 < film(page)[0] < last(page)


def test_play_runs_from_the_beginning_to_the_end_and_stops(page):
    page.click(".film .play")
    assert (page.inner_text(".film .play"), page.get_attribute(".film .play", "aria-pressed")) == ("Pause", "true")
    assert film(page)[0] == 0
    page.clock.run_for(800)
    assert film(page)[0] == 2
    page.clock.run_for(60_000)
    assert film(page)[0] == last(page)
    assert (page.inner_text(".film .play"), page.get_attribute(".film .play", "aria-pressed")) == ("Play", "false")


def test_play_pauses_and_goes_on(page):
    page.click(".film .play")
    page.clock.run_for(800)
    page.click(".film .play")
    assert page.inner_text(".film .play") == "Play"
    page.clock.run_for(5_000)
    assert film(page)[0] == 2
    page.click(".film .play")
    page.clock.run_for(400)
    assert film(page)[0] == 3


def test_moving_the_slider_ends_the_playing(page):
    page.click(".film .play")
    page.clock.run_for(800)
    page.focus(".film input")
    page.keyboard.press("End")
    assert page.inner_text(".film .play") == "Play"
    page.keyboard.press("Home")
    page.clock.run_for(5_000)
    assert film(page)[0] == 0


def test_everything_that_acts_is_reached_by_the_tab_key_and_shows_where_one_is(page):
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent.slice(0, 12)")
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert outline == "3px"
    assert reached == ["Play", "Previous training step", "training step", "All settings"]


def test_keys_press_what_the_mouse_presses(page):
    page.focus(".film .play")
    page.keyboard.press("Space")
    assert page.inner_text(".film .play") == "Pause"
    page.keyboard.press("Enter")
    assert page.inner_text(".film .play") == "Play"
    page.focus("summary")
    assert not page.is_visible("details table")
    page.keyboard.press("Enter")
    assert page.is_visible("details table")
    assert "label_smoothing" in page.inner_text("details table")


@pytest.mark.parametrize("width", [320, 390, 768, 1_280])
def test_the_page_does_not_scroll_sideways(opened, either, width):
    page = opened(either, viewport={"width": width, "height": 800}).page
    page.click("summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_the_controls_fit_a_finger(opened, report):
    page = opened(report, viewport=PHONE, has_touch=True).page
    for name in (".film .play", ".film input"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
    assert page.locator(".film .play").bounding_box()["height"] >= 24
    assert page.locator(".film input").bounding_box()["width"] >= 100
    page.tap(".film .play")
    assert page.inner_text(".film .play") == "Pause"


def test_without_scripts_the_last_frame_and_every_figure_are_shown(opened, report):
    page = opened(report, java_script_enabled=False).page
    assert page.locator("img").count() > 4
    assert page.inner_text(".film output") == "step 8"


def test_names_of_classes_are_text_and_nothing_else(opened, hostile):
    window = opened(hostile)
    assert window.dialogs == []
    assert window.page.locator("img[src=x]").count() == 0
    assert "49" not in window.page.inner_text(".headline")


def test_a_run_without_attention_has_no_film_and_says_why(opened, hostile):
    page = opened(hostile).page
    assert page.locator(".film .play").count() == 0 and page.locator("script").count() == 0
    assert "No attention maps: No attention was seen." in page.inner_text("main")
