"""The documentation site in a real browser, on a desk and on a phone."""

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
    for part in ("mkdocs.yml", "docs", "src"):
        (folder / part).symlink_to(ROOT / part)
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
    page.goto(f"{address}/{name}.html")
    page.wait_for_load_state("networkidle")
    assert complaints == []
    assert all(url.startswith((address, "data:", "blob:")) for url in requests)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert page.locator("h1").count() == 1
    assert all(page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth > 50 && i.alt.length > 5)"))
    context.close()
