"""A data set: named classes and three splits, which are drawn or read on first use.

A split is in random order, always the same one, so that its first images are a fair sample of it. Class folders are
read class by class: in that order the first images of a split would be images of one class.

Axes:  n images   y x pixels   m chosen images
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt8

from vitral.base.preprocessing import Preprocessing
from vitral.base.record import Task
from vitral.data.mapped_pixels import chosen_pixels
from vitral.data.split_table import SPLITS, SplitName, SplitRow

ORDER_SEED = 2021  # of the order of every split; unlike the small seeds from which splits are drawn or divided
Labels = Int[np.ndarray, " n"] | Bool[np.ndarray, "n k"] | Float[np.ndarray, "n k"] | UInt8[np.ndarray, "n y x"]


@dataclass(frozen=True)
class Example:
    """An image, the right answer for it, and the split it belongs to.

    `image` is a file, or RGB pixels from 0 to 255. `target` is the index of the class; for several classes at once a
    boolean per class; for numbers one float per number; None where it is unknown. `mask` is a file or an array with the
    class index of each pixel. Examples of one `group` (a patient, a scene, a burst of shots) belong to one split, since
    a model that has seen one of them knows the others. `split` is None until it is assigned. `content` is the SHA-256
    of the image's file, empty until it is known.
    """

    image: Path | UInt8[np.ndarray, "y x 3"]
    target: int | tuple[bool, ...] | tuple[float, ...] | None = None
    mask: Path | Integer[np.ndarray, "y x"] | Bool[np.ndarray, "y x"] | None = None
    group: str | None = None
    split: SplitName | None = None
    content: str = ""


@dataclass(frozen=True)
class Split:
    """Images already cropped and resized as the model's preprocessing specifies, in memory or mapped into it from disk.

    `labels` are by the task of the data the index of each image's class, whether it has each class, its numbers, or the
    class of each pixel, 255 for one that is ignored.
    Synthetic images have `masks`, which mark the object's pixels, and `factors`, the values each image was drawn from.
    Images from a folder have `files`, the path of each. `source_index` is the place at which each image was read or
    drawn; None while the images may be in an order that depends on their class, as they were read.
    """

    pixels: UInt8[np.ndarray, "n y x 3"]
    labels: Labels
    masks: Bool[np.ndarray, "n y x"] | None = None
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    source_index: Int[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, which: Int[np.ndarray, " m"]) -> "Split":
        """The images with these indices, in this order."""
        return Split(
            chosen_pixels(self.pixels, which),
            self.labels[which],
            None if self.masks is None else self.masks[which],
            {name: values[which] for name, values in self.factors.items()},
            tuple(self.files[index] for index in which) if self.files else (),
            None if self.source_index is None else self.source_index[which],
        )

    def in_random_order(self) -> "Split":
        """The images in the random order of `random_order`; unchanged if they have a `source_index` already."""
        if self.source_index is not None:
            return self
        order = random_order(len(self))
        return replace(self.only(order), source_index=order)

    def image_name(self, index: int) -> str:
        """What a reader finds the image by: its file and the folder that it lies in; without files, its number.

        >>> Split(np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1, int), files=("photos/test/cat/7.png",)).image_name(0)
        'cat/7.png'
        """
        return Path(*Path(self.files[index]).parts[-2:]).as_posix() if self.files else f"{index:,}"

    @property
    def source_order(self) -> Int[np.ndarray, " n"]:
        """The indices that put the images back in the order in which they were read or drawn."""
        return np.arange(len(self)) if self.source_index is None else np.argsort(self.source_index, kind="stable")


@dataclass(frozen=True)
class Dataset:
    """`read(split)` gives a split in any order; `load(split)` reads it anew in random order, the properties once.

    `task` says what labels are; `classes` names the classes, or the numbers. `splits` are those that there are. `rows`
    say of each image file which split it belongs to; images that are drawn have none.
    """

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    read: Callable[[SplitName], Split]
    task: Task = "one class"
    splits: tuple[SplitName, ...] = SPLITS
    rows: tuple[SplitRow, ...] = ()

    def load(self, name: SplitName) -> Split:
        return self.read(name).in_random_order()

    @property
    def judged(self) -> SplitName:
        """The split that a trained model is judged on: that for testing, or if there is none, that for validation."""
        return "test" if "test" in self.splits else "val"

    @property
    def judged_images(self) -> Split:
        return self.split(self.judged)

    def split(self, name: SplitName) -> Split:
        """The split of this name, read once."""
        return {"train": lambda: self.train, "val": lambda: self.val, "test": lambda: self.test}[name]()

    @cached_property
    def train(self) -> Split:
        return self.load("train")

    @cached_property
    def val(self) -> Split:
        return self.load("val")

    @cached_property
    def test(self) -> Split:
        return self.load("test")


def random_order(count: int) -> Int[np.ndarray, " n"]:
    """A random order of `count` images, the same on every machine.

    Image number i has the i-th random number of a fixed seed, and images are sorted by these numbers. So images that
    are added at the end leave the others in their order.

    >>> random_order(5).tolist(), random_order(8).tolist()
    ([3, 2, 4, 0, 1], [5, 6, 3, 7, 2, 4, 0, 1])
    """
    # The raw numbers of a bit generator are the same in every version of NumPy; those of `permutation` may change.
    return np.argsort(np.random.PCG64(ORDER_SEED).random_raw(count), kind="stable")
