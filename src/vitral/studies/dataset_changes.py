"""Changes to a data set before anything is trained on it, each by one rule for all splits.

Axes:  n images   y x pixels   gy gx rows, columns of patches   p q pixels of a patch   c channels
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from einops import rearrange

from vitral.base.errors import DataError
from vitral.base.lookup import check_name
from vitral.data.dataset import Dataset, Split
from vitral.data.split_table import SplitName

PATCH = 8  # pixels: the side of a patch that is moved, or within which pixels are moved
Pixels = np.ndarray


def permute_patches(pixels: Pixels, seed: int) -> Pixels:
    """Put the patches of all images in the same new order, so that neighbours are no longer adjacent."""
    rows, columns = pixels.shape[1] // PATCH, pixels.shape[2] // PATCH
    order = np.random.default_rng(seed).permutation(rows * columns)
    patches = rearrange(pixels, "n (gy p) (gx q) c -> n (gy gx) p q c", p=PATCH, q=PATCH)[:, order]
    return rearrange(patches, "n (gy gx) p q c -> n (gy p) (gx q) c", gy=rows)


def permute_within_patches(pixels: Pixels, seed: int) -> Pixels:
    """Put the pixels within each patch in a new order, the same for all patches and images."""
    order = np.random.default_rng(seed).permutation(PATCH * PATCH)
    patches = rearrange(pixels, "n (gy p) (gx q) c -> n gy gx (p q) c", p=PATCH, q=PATCH)[:, :, :, order]
    return rearrange(patches, "n gy gx (p q) c -> n (gy p) (gx q) c", p=PATCH)


def permute_pixels(pixels: Pixels, seed: int) -> Pixels:
    """Put all pixels in a new order, the same for all images."""
    n, height, width, channels = pixels.shape
    order = np.random.default_rng(seed).permutation(height * width)
    return pixels.reshape(n, height * width, channels)[:, order].reshape(pixels.shape)


PERMUTATIONS: dict[str, Callable[[Pixels, int], Pixels]] = {
    "patches permuted": permute_patches,
    "permuted within patches": permute_within_patches,
    "pixels permuted": permute_pixels,
}
SHUFFLED = "labels shuffled"
ONE_SIDE = "one side"
CHANGES = (*PERMUTATIONS, SHUFFLED, ONE_SIDE)
FEWER = re.compile(r"([\d,]+) training images")  # a change by this name keeps as many


def apply_change(data: Dataset, change: str, seed: int) -> Dataset:
    """The data set with a change, by name; unchanged for the empty name. Raises `UnknownName`."""
    if not change:
        return data
    if fewer := FEWER.fullmatch(change):
        load = partial(keep_training_images, data, int(fewer[1].replace(",", "")))
        return Dataset(f"{data.name}, {change}", data.classes, data.preprocessing, load)
    check_name(change, CHANGES, "change of a data set")
    preprocessing = data.preprocessing
    if change == ONE_SIDE:
        preprocessing = replace(preprocessing, size=(preprocessing.size[0], 2 * preprocessing.size[1]))
        load = partial(place_on_one_side, data)
    else:
        load = partial(shuffle_labels if change == SHUFFLED else permute, data, change, seed)
    return Dataset(f"{data.name}, {change}", data.classes, preprocessing, load)


def permute(data: Dataset, change: str, seed: int, name: SplitName) -> Split:
    split = data.load(name)
    return replace(split, pixels=np.ascontiguousarray(PERMUTATIONS[change](split.pixels, seed)), masks=None)


def keep_training_images(data: Dataset, n: int, name: SplitName) -> Split:
    """The first `n` training images, a fair sample since a split is in random order. Raises `DataError` for fewer."""
    split = data.load(name)
    if name != "train":
        return split
    if len(split) < n:
        raise DataError(f"{data.name} has {len(split):,} training images, and this condition needs {n:,}. Add images.")
    return split.only(np.arange(n))


def shuffle_labels(data: Dataset, change: str, seed: int, name: SplitName) -> Split:
    """Permute the training labels: accuracy above chance then cannot come from the images."""
    split = data.load(name)
    if name != "train":
        return split
    return replace(split, labels=np.random.default_rng(seed).permutation(split.labels))


def place_on_one_side(data: Dataset, name: SplitName) -> Split:
    """Images twice as wide, with the original on the left for training and validation and on the right for testing.

    The other half repeats the edge pixels.
    """
    split = data.load(name)
    width = split.pixels.shape[2]
    padding = (width, 0) if name == "test" else (0, width)
    pixels = np.pad(split.pixels, ((0, 0), (0, 0), padding, (0, 0)), mode="edge")
    return replace(split, pixels=pixels, masks=None, factors={})
