"""What is done to a data set before anything learns from it, each by one rule for all its splits.

Axes:  n images   y x pixels   gy gx rows, columns of patches   p q pixels of a patch   c channels
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from einops import rearrange

from vitral.base.lookup import check_name
from vitral.data.dataset import Dataset, Split, SplitName

PATCH = 8  # pixels: the side of a patch that is moved, or moved within
Pixels = np.ndarray


def permuted_patches(pixels: Pixels, seed: int) -> Pixels:
    """The patches of every image in another order, the same for all: what is near is no longer beside."""
    rows, columns = pixels.shape[1] // PATCH, pixels.shape[2] // PATCH
    order = np.random.default_rng(seed).permutation(rows * columns)
    patches = rearrange(pixels, "n (gy p) (gx q) c -> n (gy gx) p q c", p=PATCH, q=PATCH)[:, order]
    return rearrange(patches, "n (gy gx) p q c -> n (gy p) (gx q) c", gy=rows)


def permuted_within(pixels: Pixels, seed: int) -> Pixels:
    """The pixels of each patch in another order, the same for all patches and images."""
    order = np.random.default_rng(seed).permutation(PATCH * PATCH)
    patches = rearrange(pixels, "n (gy p) (gx q) c -> n gy gx (p q) c", p=PATCH, q=PATCH)[:, :, :, order]
    return rearrange(patches, "n gy gx (p q) c -> n (gy p) (gx q) c", p=PATCH)


def permuted_pixels(pixels: Pixels, seed: int) -> Pixels:
    """All pixels in another order, the same for all images."""
    n, height, width, channels = pixels.shape
    order = np.random.default_rng(seed).permutation(height * width)
    return pixels.reshape(n, height * width, channels)[:, order].reshape(pixels.shape)


PERMUTATIONS: dict[str, Callable[[Pixels, int], Pixels]] = {
    "patches permuted": permuted_patches,
    "permuted within patches": permuted_within,
    "pixels permuted": permuted_pixels,
}
SHUFFLED = "labels shuffled"
ONE_SIDE = "one side"
CHANGES = (*PERMUTATIONS, SHUFFLED, ONE_SIDE)


def changed(data: Dataset, change: str, seed: int) -> Dataset:
    """The data set with a change by name; as it is for the empty name. Raises `UnknownName` for another."""
    if not change:
        return data
    check_name(change, CHANGES, "change of a data set")
    if change == ONE_SIDE:
        height, width = data.preprocessing.size
        wide = replace(data.preprocessing, size=(height, 2 * width))
        return Dataset(f"{data.name}, {change}", data.classes, wide, partial(one_sided, data))
    load = partial(shuffled if change == SHUFFLED else moved, data, change, seed)
    return Dataset(f"{data.name}, {change}", data.classes, data.preprocessing, load)


def moved(data: Dataset, change: str, seed: int, name: SplitName) -> Split:
    split = data.load(name)
    return replace(split, pixels=np.ascontiguousarray(PERMUTATIONS[change](split.pixels, seed)), masks=None)


def shuffled(data: Dataset, change: str, seed: int, name: SplitName) -> Split:
    """Training labels in another order: whatever is still got right was not learned from the images."""
    split = data.load(name)
    if name != "train":
        return split
    return replace(split, labels=np.random.default_rng(seed).permutation(split.labels))


def one_sided(data: Dataset, name: SplitName) -> Split:
    """Images twice as wide: theirs is the left half to train and validate, the right half to test.

    The other half repeats the pixels of the edge.
    """
    split = data.load(name)
    width = split.pixels.shape[2]
    beyond = (width, 0) if name == "test" else (0, width)
    pixels = np.pad(split.pixels, ((0, 0), (0, 0), beyond, (0, 0)), mode="edge")
    return Split(pixels, split.labels, files=split.files)
