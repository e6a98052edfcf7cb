"""Two studies on real images: `python -m benchmarks.fashion_mnist [PRESET] [STUDY...]`.

Debian's package `dataset-fashion-mnist` has 70,000 photographs of clothes, 28 x 28 pixels in grey. A seeded sample of
them becomes a folder of class folders, and `vitral study run pooling data_hunger --data` takes that. Without the
package nothing runs, and a sentence says so.
"""

import gzip
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.command import vitral

SOURCE = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
IMAGES = 24_000  # after validation and test images are held out, more than 16,384 are left for training
SEED = 0
STUDIES = ("pooling", "data_hunger")
RESULTS = Path(__file__).parent / "results" / "fashion_mnist.json"


def read_idx(path: Path) -> np.ndarray:
    """The array of unsigned bytes in a compressed IDX file. Raises `ValueError` for a file of another kind.

    Two zero bytes, the type (8: unsigned byte), the number of dimensions; then each dimension in four bytes, the
    highest first; then the values.
    """
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: it starts with {content[:4].hex()}.")
    shape = np.frombuffer(content, ">u4", content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape([int(side) for side in shape])


def write_class_folder(source: Path, folder: Path, count: int, seed: int = SEED) -> int:
    """Write a random sample of the images as `folder/CLASS/NUMBER.png`; return how many were written.

    Images of the package's training and test files are one set here: a study makes its own splits.
    """
    pixels, labels = (
        np.concatenate([read_idx(source / f"{part}-{kind}-ubyte.gz") for part in ("train", "t10k")])
        for kind in ("images-idx3", "labels-idx1")
    )
    chosen = np.random.default_rng(seed).permutation(len(labels))[:count]
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in chosen:
        Image.fromarray(pixels[index]).save(folder / CLASSES[labels[index]] / f"{index:05}.png")
    return len(chosen)


def run(preset: str = "quick", names: tuple[str, ...] = STUDIES, count: int = IMAGES) -> dict[str, object] | None:
    """The headline of each study and its hypotheses; None without the package."""
    if not SOURCE.is_dir():
        print(f"{SOURCE} is not there: apt-get install dataset-fashion-mnist. Nothing was run.")
        return None
    with tempfile.TemporaryDirectory() as home:
        images = Path(home) / "fashion-mnist"
        written = write_class_folder(SOURCE, images, count)
        vitral("study", "run", *names, "--preset", preset, "--data", str(images), "--out", f"{home}/studies")
        records = [json.loads((Path(home) / f"studies/{preset}-own/{name}.json").read_text()) for name in names]
    keys = ("verdict", "headline", "scope", "hypotheses", "origin")
    found = {record["study"]: {key: record[key] for key in keys} for record in records}
    for record in records:
        print(f"   {record['study']}: {record['headline']}", flush=True)
    origin = {key: records[-1]["origin"][key] for key in ("machine", "versions", "time")}
    return origin | {"preset": preset, "images": written, "seed": SEED, "studies": found}


if __name__ == "__main__":
    preset, *chosen = sys.argv[1:] or ["quick"]
    result = run(preset, tuple(chosen) or STUDIES)
    if result is not None and preset != "smoke":
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
