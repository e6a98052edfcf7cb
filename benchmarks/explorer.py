"""The explorer's page: its size, the time to build it, and what a reader waits for in a real Chromium.

Rows of random weights are diffuse; with larger queries and keys they are sharp. Both are tried, since they compress
differently. Times in the browser are those of the page's own clock: the first paint, the first map, and from a patch
that is pointed at to its map, in both directions, of the first and the last layer.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from playwright.sync_api import Browser, sync_playwright
from sklearn.datasets import load_sample_image

import vitral
from vitral.base.record import ModelRecord, attach_record
from vitral.data.preprocess import batch_of

# name of the case: model, image side, how much larger queries and keys are, limit in MB
CASES: dict[str, tuple[str, int, float, float]] = {
    "ViT-B/16, 224 px, diffuse rows": ("vit_base_patch16_224", 224, 1, 6),
    "ViT-B/16, 224 px, sharp rows": ("vit_base_patch16_224", 224, 9, 6),
    "DINOv2 ViT-B/14, 518 px": ("vit_base_patch14_dinov2", 518, 3, 15),
    "the demo's model": ("vit_nano_patch8_48", 48, 3, 1.2),
}
HOVERED = 40  # patches per layer and direction
HOVER = """async (count) => {
  const one = window.explorer;
  const found = [];
  for (const direction of ["to", "from"])
    for (const layer of [0, one.image.layers.length - 1]) {
      await one.change({ direction, layer, head: 0 });
      const [rows, columns] = one.about.grid;
      for (let number = 0; number < count; number += 1) {
        const start = performance.now();
        one.pointed = { y: (((number * 5) % rows) + 0.5) / rows, x: (((number * 7) % columns) + 0.5) / columns };
        await one.render();
        found.push(performance.now() - start);
      }
      one.pointed = null;
    }
  return found;
}"""


def made(name: str, side: int, scale: float) -> Any:
    """The model, with random weights and larger queries and keys."""
    torch.manual_seed(0)
    model = vitral.create(name, img_size=side, num_classes=10).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("qkv.weight"):
                value[: len(value) * 2 // 3] *= scale
        torch.nn.init.normal_(model.head.weight, std=0.05)
    return attach_record(model, ModelRecord(tuple(f"class {number}" for number in range(10)), model.preprocessing))


def seconds_of_a_pass(model: Any, photo: np.ndarray) -> float:
    images = batch_of([photo], model.preprocessing)
    with torch.inference_mode():
        model(images)
        start = time.perf_counter()
        model(images)
    return time.perf_counter() - start


def opened(browser: Browser, page: Path) -> dict[str, float]:
    """What a reader waits for, in milliseconds."""
    window = browser.new_page(viewport={"width": 1280, "height": 900})
    window.goto(page.as_uri(), wait_until="commit")
    window.wait_for_selector("#explorer[aria-busy=false]", timeout=60_000)
    drawn = window.evaluate("performance.now()")
    paint = window.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    while not window.evaluate("window.explorer.unpacked.size === window.explorer.image.layers.length"):
        time.sleep(0.05)
    times = np.array(window.evaluate(HOVER, HOVERED))
    window.close()
    return {
        "first_paint_ms": round(paint, 1),
        "first_map_ms": round(drawn, 1),
        "hover_median_ms": round(float(np.median(times)), 2),
        "hover_95_ms": round(float(np.quantile(times, 0.95)), 2),
        "hover_worst_ms": round(float(times.max()), 2),
    }


def run() -> dict[str, Any]:
    photo, found = load_sample_image("china.jpg"), {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for case, (name, side, scale, limit) in CASES.items():
            model = made(name, side, scale)
            one_pass = seconds_of_a_pass(model, photo)
            start = time.perf_counter()
            page = vitral.explore(model, photo, out=Path(folder) / f"{name}-{scale:g}.html")
            seconds = time.perf_counter() - start
            found[case] = {
                "megabytes": round(page.size / 1e6, 2),
                "limit_megabytes": limit,
                "seconds": round(seconds, 2),
                "seconds_of_a_pass": round(one_pass, 3),
                "largest_error": page.error,
                "residual": page.residual,
                "left_out": page.left_out,
                **opened(browser, page.page),
            }
            print(f"   {case}: {found[case]}", flush=True)
        browser.close()
    return {"photograph": "scikit-learn's china.jpg", "threads": torch.get_num_threads(), "cases": found}
