"""Images unlike the training images: how many are called so, at 5 % false alarms on test images of `shapes`."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits, load_sample_images

import vitral
from benchmarks.command import vitral as command
from vitral.base.errors import ImageError
from vitral.base.intervals import interval
from vitral.data.image import load_image
from vitral.data.preprocess import crop_and_resize, normalise
from vitral.data.synthetic.cued import cued
from vitral.data.synthetic.shapes import shapes
from vitral.data.synthetic.textures import textures
from vitral.store.classifier import Classifier
from vitral.store.image_features import training_distances

SEEDS = (0, 1, 2)
IMAGES = 500  # of each kind, at most
CLIPART = Path("/usr/share/openclipart/png")  # Debian's package openclipart-png
FRESH = 1000  # added to the seed of the training data, for test images that training has not drawn


def run() -> dict[str, object]:
    runs = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as home:
            data, out = f"shapes:seed={seed}", Path(home) / "run"
            trained = command("train", "--data", data, "--seed", str(seed), "--out", str(out))
            model = vitral.load(out)
            size = sum(file.stat().st_size for file in out.glob("training_images.*"))
        found = {name: share_unlike(model, images) for name, images in kinds(seed).items()}
        runs.append({"seed": seed, "test_accuracy": trained["test_accuracy"], "bytes": size, "unlike": found})
        shares = ", ".join(f"{name} {one['share']:.1%}" for name, one in found.items())
        print(f"   seed {seed}: {shares}", flush=True)
    clipart = "present" if CLIPART.is_dir() else "absent: apt-get install openclipart-png"
    return {"command": "vitral train --data shapes:seed=S --seed S", "openclipart": clipart, "runs": runs}


def kinds(seed: int) -> dict[str, Iterable[np.ndarray]]:
    """Images of each kind; the first should rarely be called unlike, the next three nearly always.

    The others have no target: they show what the distance sees and what it does not.
    """
    rng = np.random.default_rng(seed)
    test = shapes(n=100, seed=FRESH + seed).test.pixels
    found: dict[str, Iterable[np.ndarray]] = {
        "test images": test,
        "digits": list(digits(rng)),
        "crops of photographs": list(crops(rng)),
    }
    if CLIPART.is_dir():
        found["openclipart"] = list(islice(clipart(rng), IMAGES))
    return found | {
        "cued": cued(n=100).test.pixels[:IMAGES],
        "textures": textures(n=100).test.pixels[:IMAGES],
        "patches shuffled": [shuffled(image, rng) for image in test[:IMAGES]],
        "colours inverted": 255 - test[:IMAGES],
        "upside down": test[:IMAGES, ::-1],
    }


def digits(rng: np.random.Generator) -> Iterator[np.ndarray]:
    scans = load_digits().images
    for index in rng.permutation(len(scans))[:IMAGES]:
        yield np.repeat((scans[index] / 16 * 255).astype(np.uint8)[..., None], 3, axis=2)


def crops(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Squares of any size from 48 pixels up, from both photographs."""
    photographs = load_sample_images().images
    for number in range(IMAGES):
        photograph = photographs[number % len(photographs)]
        height, width = photograph.shape[:2]
        side = int(rng.integers(48, min(height, width) + 1))
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        yield photograph[top : top + side, left : left + side]


def clipart(rng: np.random.Generator) -> Iterator[np.ndarray]:
    files = sorted(CLIPART.rglob("*.png"))
    for index in rng.permutation(len(files)):
        with suppress(ImageError):  # a few files of the package are empty
            yield load_image(files[index])


def shuffled(image: np.ndarray, rng: np.random.Generator, side: int = 8) -> np.ndarray:
    """The image with its squares of `side` pixels in another order."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    squares = image.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    squares = squares[rng.permutation(len(squares))]
    return squares.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(image.shape)


def share_unlike(model: Classifier, images: Iterable[np.ndarray]) -> dict[str, object]:
    """The share of images that are called unlike the training images, with its 95 % interval."""
    prepared = np.stack([crop_and_resize(np.ascontiguousarray(image), model.preprocessing) for image in images])
    distances = training_distances(model, normalise(torch.from_numpy(prepared), model.preprocessing))
    assert distances is not None, "a run that has finished has statistics of its training images"
    unlike = sum(one.is_unlike for one in distances)
    median = float(np.median([one.value for one in distances]))
    share = unlike / len(distances)
    return {"share": share, "interval": interval(share, len(distances)), "n": len(distances), "median_distance": median}
