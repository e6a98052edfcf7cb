"""The images that ways of running a model are timed and compared on, and those that calibrate int8."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vitral.base.errors import UsageError
from vitral.base.preprocessing import Preprocessing
from vitral.data.examples import images_in
from vitral.data.image import load_image
from vitral.data.preprocess import crop_and_resize

MOST, GENERATED = 64, 16
COARSE = (2, 5, 14)  # pixels a side, of which each channel of a generated image is the sum


@dataclass(frozen=True)
class BenchImages:
    """Images in the model's size, in bytes: `compared` are timed, too; `calibrating` are others, and None without a
    folder. `source` says where they are from."""

    compared: UInt8[np.ndarray, "n y x 3"]
    calibrating: UInt8[np.ndarray, "m y x 3"] | None
    source: str


def draw_images(folder: Path | None, preprocessing: Preprocessing) -> BenchImages:
    """Up to 64 images of a folder to compare and up to 64 others to calibrate, drawn at random; else 16 generated ones.

    Raises `UsageError` if there are none in the folder, `ImageError` for one that cannot be read.
    """
    if folder is None:
        pixels = [generated_image(number) for number in range(GENERATED)]
        return BenchImages(in_size(pixels, preprocessing), None, "generated: smooth colours, unlike photographs")
    files = images_in(folder) if folder.is_dir() else [folder]
    if not files:
        raise UsageError(f"There are no images in {folder}.")
    order = np.random.default_rng(0).permutation(len(files))
    count = min(MOST, (len(files) + 1) // 2)
    first, second = (
        in_size([load_image(files[index]) for index in some], preprocessing)
        for some in (order[:count], order[count : 2 * count])
    )
    return BenchImages(first, second, f"{folder}: {count:,} of {len(files):,}, drawn at random")


def in_size(pixels: list[UInt8[np.ndarray, "_ _ 3"]], preprocessing: Preprocessing) -> UInt8[np.ndarray, "n y x 3"]:
    height, width = preprocessing.size
    found = [crop_and_resize(one, preprocessing) for one in pixels]
    return np.stack(found) if found else np.zeros((0, height, width, 3), np.uint8)


def generated_image(number: int) -> UInt8[np.ndarray, "96 96 3"]:
    """Random colours at several scales."""
    rng, whole = np.random.default_rng(number), np.zeros((96, 96, 3))
    for side in COARSE:
        coarse = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        whole += np.asarray(coarse.resize((96, 96), Image.Resampling.BICUBIC), dtype=np.float64) / len(COARSE)
    return whole.astype(np.uint8)
