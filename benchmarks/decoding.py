"""Reading photographs for training and for judging: seconds and memory of many large JPEGs, and what reducing costs.

Training decodes a JPEG at a fraction of its size; everything else decodes it whole. The difference is measured on
scikit-learn's two photographs, in grey levels of 255.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.memory import anonymous, most_anonymous
from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Example
from vitral.data.decode import load_resized
from vitral.data.examples import load_examples
from vitral.data.reading import Reading
from vitral.data.split_table import SplitName

SIDE = 64  # pixels
SETS = {"42 of 12 megapixels": (42, (4000, 3000)), "8 of 64 megapixels": (8, (8000, 8000))}
QUALITY = 90


def paint(home: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEGs of this size, each another part of one of the two photographs."""
    pictures, paths = load_sample_images().images, [home / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        picture = Image.fromarray(pictures[number % 2][number : 400 + number, number : 600 + number])
        picture.resize(size, Image.Resampling.BICUBIC).save(path, quality=QUALITY)
    return paths


def measured(paths: list[Path], split: SplitName) -> dict[str, float]:
    """Seconds to read them all, and the most anonymous memory above what there was before."""
    examples = [Example(path, 0) for path in paths]
    before, start = anonymous(), time.perf_counter()
    with most_anonymous() as found:
        load_examples(examples, ("one",), "one class", Preprocessing(size=(SIDE, SIDE)), split, Reading(report=print))
    return {"seconds": round(time.perf_counter() - start, 2), "MB": round((found[-1] - before) / 1e6, 1)}


def differences(path: Path) -> dict[str, float]:
    """The mean difference of a photograph that was reduced, from the same decoded whole, for several sizes."""
    found = {}
    for side in (32, 64, 128, 224):
        asked = Preprocessing(size=(side, side))
        whole, reduced = (load_resized(path, asked, training).astype(int) for training in (False, True))
        found[str(side)] = round(float(np.abs(whole - reduced).mean()), 2)
    return found


def run() -> dict[str, object]:
    result: dict[str, object] = {"side": SIDE, "quality": QUALITY}
    with tempfile.TemporaryDirectory() as home:
        for name, (count, size) in SETS.items():
            folder = Path(home) / name.replace(" ", "-")
            folder.mkdir()
            paths = paint(folder, count, size)
            uses: tuple[tuple[str, SplitName], ...] = (("training", "train"), ("judging", "test"))
            own = {use: measured(paths, split) for use, split in uses}
            for use, one in own.items():
                print(f"   {name}, {use:<8} {one['seconds']:6.2f} s, {one['MB']:7.1f} MB at most", flush=True)
            result[name] = own | {"grey levels by side": differences(paths[0])}
            print(f"   {name}: mean difference in grey levels by side {differences(paths[0])}", flush=True)
    return result
