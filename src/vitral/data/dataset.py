"""What a data set is: named classes, and three splits that are made or read when they are asked for.

Axes:  n images   y x pixels
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int, UInt8

from vitral.base.preprocessing import Preprocessing

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Split:
    """Images in memory, as the model's preprocessing has cut them.

    `masks` marks the object's pixels and `factors` gives what each image was drawn from, where the images were drawn by
    us; `files` names each image where they were read.
    """

    pixels: UInt8[np.ndarray, "n y x 3"]
    labels: Int[np.ndarray, " n"]
    masks: Bool[np.ndarray, "n y x"] | None = None
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, which: Int[np.ndarray, " m"]) -> "Split":
        """Some of its images, in the order asked for."""
        return Split(
            self.pixels[which],
            self.labels[which],
            None if self.masks is None else self.masks[which],
            {name: values[which] for name, values in self.factors.items()},
            tuple(self.files[index] for index in which) if self.files else (),
        )


@dataclass(frozen=True)
class Dataset:
    """`load(split)` makes or reads a split; the properties keep it."""

    name: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    load: Callable[[SplitName], Split]

    @cached_property
    def train(self) -> Split:
        return self.load("train")

    @cached_property
    def val(self) -> Split:
        return self.load("val")

    @cached_property
    def test(self) -> Split:
        return self.load("test")


def stratified(labels: Int[np.ndarray, " n"], fractions: tuple[float, ...], seed: int) -> list[Int[np.ndarray, " m"]]:
    """Disjoint index sets that together hold every item; each class is shared out in the given fractions.

    A class is cut at the rounded cumulative fractions, so that small classes lose nobody.
    """
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in fractions]
    cuts = np.cumsum(fractions)[:-1]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        for part, chosen in zip(parts, np.split(members, np.round(cuts * len(members)).astype(int))):
            part.append(chosen)
    return [np.sort(np.concatenate(part)) for part in parts]
