"""Reports of real runs, opened in Chromium."""

import shutil
from functools import partial

import pytest
from playwright.sync_api import sync_playwright

from shell import QUICK, paint
from vitral.cli import main


@pytest.fixture(scope="session")
def chromium():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "These tests open the report in Chromium, which is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """The report of a short run, its film included."""
    folder = tmp_path_factory.mktemp("report") / "run"
    words = ["--data", "shapes:n=64,size=16", "--epochs", "1", "--batch-size", "8"]
    assert main(["train", *words, "--out", str(folder)]) == 0
    return folder / "report.html"


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    """The report of a run whose classes are named like markup, and which has no film."""
    folder = tmp_path_factory.mktemp("hostile")
    paint(folder / "photos", {"<img src=x onerror=alert(1)>": 60, "{{ 7 * 7 }} & 'so' \"on\"": 190})
    (folder / "quick.py").write_text(QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["--data", "photos", "--model", "quick.py:Quick", "--img-size", "8", "--epochs", "1"]
        assert main(["train", *words, "--out", "run"]) == 0
    return folder / "run" / "report.html"


class Opened:
    """A page, and what it did when it was opened."""

    def __init__(self, browser, path, address="", before="", has_clock=True, **settings):
        """A file, or an address of a server. `address` is what follows its name, and `before` a script that runs before
        those of the page. Without a clock of the test's own, time passes by itself."""
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        if before:
            self.page.add_init_script(before)
        self.complaints, self.requests, self.dialogs = [], [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url[:80]}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        if has_clock:
            self.page.clock.install(time=0)
        self.page.goto((path if isinstance(path, str) else path.as_uri()) + address)
        if has_clock:
            self.page.clock.pause_at(3_600_000)  # milliseconds: from here on time passes only as a test says


@pytest.fixture(scope="session")
def new_window(chromium):
    """`Opened` in this browser, for tests that share a window and close it themselves."""
    return partial(Opened, chromium)


@pytest.fixture
def opened(chromium):
    """Open a report in a window: `opened(path, viewport=...)`."""
    windows = []

    def window(path, address="", **settings):
        windows.append(Opened(chromium, path, address, **settings))
        return windows[-1]

    yield window
    for one in windows:
        one.context.close()
