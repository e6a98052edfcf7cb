"""The images that ways of running a model are timed and compared on."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from vitral.base.errors import UsageError
from vitral.base.preprocessing import Preprocessing
from vitral.data.examples import images_in
from vitral.data.image import load_image
from vitral.data.preprocess import batch_of

MOST, GENERATED = 64, 16
COARSE = (2, 5, 14)  # pixels a side, of which each channel of a generated image is the sum


def draw_images(folder: Path | None, preprocessing: Preprocessing) -> tuple[Float[np.ndarray, "n c h w"], str]:
    """Prepared images, and where they are from: up to 64 of a folder, drawn at random, else 16 generated ones.

    Raises `UsageError` if there are none in the folder, `ImageError` for one that cannot be read.
    """
    if folder is None:
        pixels = [generated_image(number) for number in range(GENERATED)]
        return prepare(pixels, preprocessing), "generated: smooth colours, unlike photographs"
    files = images_in(folder) if folder.is_dir() else [folder]
    if not files:
        raise UsageError(f"There are no images in {folder}.")
    chosen = sorted(np.random.default_rng(0).permutation(len(files))[:MOST])
    pixels = [load_image(files[index]) for index in chosen]
    return prepare(pixels, preprocessing), f"{folder}: {len(pixels):,} of {len(files):,}, drawn at random"


def prepare(pixels: list[UInt8[np.ndarray, "_ _ 3"]], preprocessing: Preprocessing) -> Float[np.ndarray, "n c h w"]:
    # One by one: photographs of several sizes, each of which may be large.
    return np.concatenate([batch_of([one], preprocessing).numpy() for one in pixels])


def generated_image(number: int) -> UInt8[np.ndarray, "96 96 3"]:
    """Random colours at several scales."""
    rng, whole = np.random.default_rng(number), np.zeros((96, 96, 3))
    for side in COARSE:
        coarse = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        whole += np.asarray(coarse.resize((96, 96), Image.Resampling.BICUBIC), dtype=np.float64) / len(COARSE)
    return whole.astype(np.uint8)
