"""The explorer in the docs: `python -m benchmarks.explorer_pictures` makes its page and its pictures again.

`docs/explore-demo.html` is the page of the demo's model, which it trains first if `runs/shapes-1` is not there, beside
its weights before training. `explorer.webp` shows the mouse on patch after patch; `explorer-dark.png` and
`explorer-phone.png` are the page in dark colours and on a phone.
"""

import io
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import vitral
from benchmarks.command import vitral as command
from benchmarks.pictures import first_right
from vitral.data.synthetic.shapes import shapes

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RUN = Path("runs/shapes-1")
STEPS = ((1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 4), (4, 4))  # patches that the mouse visits
FRAME = 700  # milliseconds
DESK, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}


def demo_page(folder: Path) -> Path:
    """The page of a test image that the model answers right."""
    if not (RUN / "report.html").is_file():
        command("train", "--out", str(RUN))
    model, data = vitral.load(RUN), shapes(n=8)
    image = folder / "shape.png"
    Image.fromarray(data.test.pixels[first_right(model, data)]).save(image)
    words = f"vitral explore {RUN} {image.name}"
    return vitral.explore(RUN, image, out=folder / "page.html", repeat=words).page


@contextmanager
def opened(browser: Browser, page: Path, viewport: dict[str, int], scheme: str = "light") -> Iterator[Page]:
    context = browser.new_context(viewport=viewport, color_scheme=scheme, device_scale_factor=1)
    window = context.new_page()
    window.goto(page.as_uri())
    window.wait_for_selector("#explorer[aria-busy=false]")
    while not window.evaluate("window.explorer.unpacked.size === window.explorer.image.layers.length"):
        time.sleep(0.05)
    yield window
    context.close()


def point(window: Page, row: int, column: int) -> None:
    """Move the mouse to the middle of a patch."""
    box = window.locator(".stage canvas").first.bounding_box()
    rows, columns = window.evaluate("window.explorer.about.grid")
    assert box is not None
    window.mouse.move(box["x"] + box["width"] * (column + 0.5) / columns, box["y"] + box["height"] * (row + 0.5) / rows)
    window.evaluate("window.explorer.render()")


def shot(window: Page) -> Image.Image:
    return Image.open(io.BytesIO(window.screenshot())).convert("RGB")


def save(picture: Image.Image, name: str) -> None:
    target = DOCS / "images" / name
    picture.quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1024:.0f} KiB")


def main() -> None:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        page = demo_page(Path(folder))
        shutil.copy(page, DOCS / "explore-demo.html")
        print(f"docs/explore-demo.html: {page.stat().st_size / 1024:.0f} KiB")
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        frames = []
        with opened(browser, page, DESK) as window:
            for row, column in STEPS:
                point(window, row, column)
                frames.append(shot(window))
        smaller = [frame.resize((960, 645), Image.Resampling.LANCZOS) for frame in frames]
        moving = DOCS / "images" / "explorer.webp"
        smaller[0].save(moving, save_all=True, append_images=smaller[1:], duration=FRAME, loop=0, quality=80, method=6)
        print(f"{moving.relative_to(ROOT)}: {moving.stat().st_size / 1024:.0f} KiB, {len(np.array(frames))} frames")
        with opened(browser, page, DESK, "dark") as window:
            save(shot(window), "explorer-dark.png")
        with opened(browser, page, PHONE) as window:
            save(shot(window), "explorer-phone.png")
        browser.close()


if __name__ == "__main__":
    main()
