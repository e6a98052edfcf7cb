"""The documentation site in a real browser, on a desk and on a phone."""

import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
PAGES = ("index", "learn", "use", "research", "reference", "lecture", "believe", "numbers", "contributing/concepts")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """The site, built anew and served on this machine."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    for part in ("docs", "src"):  # copies: behind links the site would be built into the repository
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    command = [Path(sys.executable).parent / "zensical", "build", "--strict"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder / "build" / "site"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window_and_makes_no_other_requests(chromium, address, name, viewport):
    context = chromium.new_context(viewport=viewport)
    page = context.new_page()
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    answer = page.goto(f"{address}/{name}.html")
    assert answer.status == 200
    page.wait_for_load_state("networkidle")
    assert complaints == []
    assert all(url.startswith((address, "data:", "blob:")) for url in requests)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.locator("h1").count() == 1
    assert all(page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth > 50 && i.alt.length > 5)"))
    context.close()


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_the_first_page_holds_an_explorer_that_answers(chromium, address, viewport):
    context = chromium.new_context(viewport=viewport)
    page = context.new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{address}/index.html")
    page.locator("iframe.explorer").scroll_into_view_if_needed()
    frame = page.frame_locator("iframe.explorer")
    frame.locator("#explorer[aria-busy=false]").wait_for(timeout=20_000)
    frame.locator(".stage canvas").first.hover()
    assert "the patch in row" in frame.locator(".title").first.inner_text()
    assert complaints == []
    context.close()
