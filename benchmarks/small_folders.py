"""Small folders of real images from scratch, against features by hand: the recipe `small`, HOG + SVM, a random forest.

Three kinds of folders, five splits each: clip art in six categories (Debian's package openclipart-png), 300 photographs
of clothes (dataset-fashion-mnist), and 200 handwritten digits (scikit-learn). HOG + SVM and the random forest get the
training and the validation images; ours trains on the first and chooses among its own steps by the second. The start is
`resnet_nano_128` trained on 20,000 other photographs of clothes. Without the two packages those parts are left out.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image
from skimage.feature import hog
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

import vitral
from benchmarks.adapt import write_splits
from benchmarks.fashion_mnist import CLASSES, SOURCE
from vitral.base.errors import ImageError
from vitral.data.image import load_image
from vitral.data.split_table import read_splits

SPLITS = range(5)
SIDE = 64  # pixels of an image for HOG; 8 x 8 cells of 8 pixels
CLIPART = Path("/usr/share/openclipart/png")
CATEGORIES = ("food/fruit", "animals/mammals", "office", "tools", "recreation/music", "geography")
CLOTHES = {"train": 210, "val": 90, "test": 2000}
DIGITS = {"train": 14, "val": 6, "test": 100}  # of each class
START = {"train": 20_000, "val": 1000, "test": 2000}


def write_clipart(home: Path, seed: int) -> Path:
    """All pictures of the categories; the seed of the run divides them."""
    for category in CATEGORIES:
        (home / Path(category).name).mkdir(parents=True)
        for number, path in enumerate(sorted((CLIPART / category).rglob("*.png"))):
            try:
                Image.fromarray(load_image(path)).save(home / Path(category).name / f"{number}.png")
            except ImageError:
                continue  # a picture of 169 megapixels
    return home


def write_clothes(home: Path, seed: int) -> Path:
    return write_splits(home, CLASSES, CLOTHES, seed)


def write_digits(home: Path, seed: int) -> Path:
    digits = load_digits()
    rng = np.random.default_rng(seed)
    for label in range(10):
        order = iter(rng.permutation(np.flatnonzero(digits.target == label)))
        for split, count in DIGITS.items():
            (home / split / str(label)).mkdir(parents=True)
            for _, index in zip(range(count), order):
                pixels = (digits.images[index] * (255 / 16)).astype(np.uint8)
                Image.fromarray(pixels).save(home / split / str(label) / f"{index}.png")
    return home


# name -> how it is written, and what differs from the recipe
SETS: dict[str, tuple[Callable[[Path, int], Path], dict[str, Any]]] = {
    "clip art": (write_clipart, {}),
    "clothes": (write_clothes, {}),
    "digits": (write_digits, {"augment": "affine"}),  # a mirrored digit is another one, or none
}


def by_hand(run: Path, data: Path) -> dict[str, float]:
    """Test accuracies of classical methods on the split of a run, the better of two settings each."""
    rows = read_splits(run / "splits.csv")
    images = {row.path: whole(data / row.path) for row in rows}
    learn = [row.path for row in rows if row.split != "test"]
    test = [row.path for row in rows if row.split == "test"]
    classes = {path: Path(path).parent.name for path in images}
    found: dict[str, float] = {}
    features = {"HOG + SVM": gradients, "random forest": pixels}
    models = {
        "HOG + SVM": [SVC(C=1.0), SVC(C=10.0)],
        "random forest": [RandomForestClassifier(500, random_state=0, max_features=most) for most in ("sqrt", 0.1)],
    }
    for name, feature in features.items():
        known, asked = ([feature(images[path]) for path in paths] for paths in (learn, test))
        right = np.array([classes[path] for path in test])
        scores = [(one.fit(known, [classes[p] for p in learn]).predict(asked) == right).mean() for one in models[name]]
        found[name] = float(max(scores))
    return found


def whole(path: Path) -> np.ndarray:
    """The image, all of it in a square: that is better for HOG than cutting off its sides."""
    return np.asarray(Image.fromarray(load_image(path)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def gradients(image: np.ndarray) -> np.ndarray:
    return np.asarray(hog(image, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2), channel_axis=-1))


def pixels(image: np.ndarray) -> np.ndarray:
    return image[::4, ::4].reshape(-1)


def trained(recipe: str, **settings: Any) -> dict[str, Any]:
    began = perf_counter()
    result = vitral.train(recipe, **settings)
    return {"accuracy": result.test_accuracy, "n": result.n, "seconds": round(perf_counter() - began)}


def run(names: tuple[str, ...] = tuple(SETS), splits: range = SPLITS) -> dict[str, object]:
    found: dict[str, list[dict[str, Any]]] = {}
    missing = [str(place) for place in (CLIPART, SOURCE) if not place.is_dir()]
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        start = None
        if SOURCE.is_dir():
            others = write_splits(home / "start-data", CLASSES, START, seed=1000)
            own = dict(model="resnet_nano_128", img_size=64, epochs=3, ema=0.99, label_smoothing=0.1)
            start = vitral.train("fast", data=str(others), out=home / "start", **own)
            print(f"   start: {start.summary}", flush=True)
        for name in names:
            if (name == "clip art" and not CLIPART.is_dir()) or (name == "clothes" and not SOURCE.is_dir()):
                continue
            write, settings = SETS[name]
            for seed in splits:
                data, out = write(home / f"{name}-{seed}", seed), home / f"run-{name}-{seed}"
                own = dict(data=str(data), seed=seed, **settings)
                runs = {"small": trained("small", out=out, **own)}
                # The clothes of the start and those that are judged are of one kind: that would be no transfer.
                if start is not None and name != "clothes":
                    runs["from the start"] = trained("fine-tune", init=str(home / "start"), out=f"{out}-started", **own)
                runs |= {method: {"accuracy": value} for method, value in by_hand(out, data).items()}
                found.setdefault(name, []).append({"seed": seed} | runs)
                figures = ", ".join(f"{key} {one['accuracy']:.1%}" for key, one in runs.items())
                print(f"   {name}, split {seed}: {figures}; {runs['small']['seconds']} s", flush=True)
    means = {
        name: {key: mean(one[key]["accuracy"] for one in runs) for key in runs[0] if key != "seed"}
        for name, runs in found.items()
    }
    for name, figures in means.items():
        print(f"   {name}: {', '.join(f'{key} {value:.1%}' for key, value in figures.items())}", flush=True)
    return {"missing": missing, "start": start.test_accuracy if start else None, "means": means, "runs": found}


if __name__ == "__main__":
    run(tuple(sys.argv[1:]) or tuple(SETS))
