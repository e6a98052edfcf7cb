"""Copies among the images of a data set: the same pixels, or nearly the same, within and across its splits.

A test image that is a copy of a training image makes test figures too good; one with two labels teaches nothing.

Near copies (saved again as JPEG, scaled, a little brighter) have difference hashes that differ in few bits (Krawetz
2013, "Kind of Like That"), and thumbnails that differ by little beside their own contrast.

Axes:  n images   y x pixels   k pixels of a thumbnail, of all channels
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8, UInt64
from torch.nn.functional import adaptive_avg_pool2d

from vitral.base.errors import DataError
from vitral.base.plural import one_or_many
from vitral.data.dataset import Dataset, Split
from vitral.data.joining import joined
from vitral.data.split_table import SplitName

Duplicates = Literal["keep", "drop", "fail"]
PREFERRED: tuple[SplitName, ...] = ("test", "val", "train")  # a copy is kept in the first of these that has one
THUMBNAIL = 16  # pixels of a side
BITS = 7  # of 64 in which the hashes of near copies may differ
COARSE = 4  # areas of a side, by which thumbnails are compared first
BANDS = 8  # of 8 bits: hashes that differ in at most seven bits are equal in one of eight bands
CONTRAST = 4.0  # grey levels: the least deviation within a thumbnail by which copies can be known
DIFFERENCE = 0.1  # of a thumbnail's deviation: the most that near copies differ by
AT_ONCE = 512
SHOWN = 3  # pairs in a message


@dataclass(frozen=True)
class Member:
    """One image: its split, its place there, and its file."""

    split: SplitName
    index: int
    file: str


@dataclass(frozen=True)
class Copies:
    """Images that are copies of each other. `labels_agree` says whether all have the same label."""

    members: tuple[Member, ...]
    labels_agree: bool

    @property
    def splits(self) -> set[SplitName]:
        return {member.split for member in self.members}


def find_copies(splits: Mapping[SplitName, Split]) -> list[Copies]:
    """All groups of copies, those across splits first."""
    members = [
        Member(name, index, split.files[index] if split.files else f"{name} image {index}")
        for name, split in splits.items()
        for index in range(len(split))
    ]
    found = []
    for group in joined(copied_pairs([split.pixels for split in splits.values()]), len(members)):
        if len(group) == 1:
            continue
        own = tuple(members[index] for index in group)
        labels = [splits[one.split].labels[one.index] for one in own]
        found.append(Copies(own, all(np.array_equal(labels[0], label) for label in labels)))
    return sorted(found, key=lambda one: (-len(one.splits), one.members[0].file))


def copied_pairs(parts: Sequence[UInt8[np.ndarray, "_ y x 3"]]) -> Iterator[tuple[int, int]]:
    """Pairs of images that are copies, numbered through all parts."""
    first: dict[bytes, int] = {}
    for index, pixels in enumerate(image for part in parts for image in part):
        digest = hashlib.sha256(pixels.tobytes()).digest()
        if digest in first:
            yield first[digest], index
        first.setdefault(digest, index)
    small = np.concatenate([thumbnails(part) for part in parts])
    hashes = np.concatenate([difference_hashes(part) for part in parts])
    deviation = small.std(axis=1)
    # The means of 4 x 4 areas differ by no more than the thumbnails do, and take a sixteenth of the time to compare:
    # drawings, or clothes on white, have millions of pairs with similar hashes.
    coarse = small.reshape(len(small), -1, COARSE, THUMBNAIL // COARSE, COARSE, THUMBNAIL // COARSE).mean(axis=(3, 5))
    coarse = coarse.reshape(len(small), -1)
    for one, others in similar_hashes(hashes, np.flatnonzero(deviation >= CONTRAST)):
        for values in (coarse, small):
            difference = np.sqrt(((values[others] - values[one]) ** 2).mean(axis=1))
            others = others[difference <= DIFFERENCE * np.minimum(deviation[others], deviation[one])]
        yield from ((one, int(other)) for other in others)


def similar_hashes(
    hashes: UInt64[np.ndarray, " n"], which: Int[np.ndarray, " m"]
) -> Iterator[tuple[int, Int[np.ndarray, " o"]]]:
    """Each of some images, with those after it whose hashes differ in at most `BITS` bits; each pair once."""
    bands = hashes[which, None] >> np.arange(0, 64, 64 // BANDS, dtype=np.uint64) & np.uint64(0xFF)
    for band in range(BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        ends = np.searchsorted(bands[order, band], np.arange(257))
        for start, end in pairwise(ends):
            own = order[start:end]
            for place, index in enumerate(own[:-1], 1):
                others = own[place:]
                near = np.bitwise_count(hashes[which[others]] ^ hashes[which[index]]) <= BITS
                others = others[near]
                # A pair that is equal in an earlier band was found there.
                new = ~(bands[others, :band] == bands[index, :band]).any(axis=1)
                if new.any():
                    yield int(which[index]), which[others[new]]


def thumbnails(pixels: UInt8[np.ndarray, "n y x 3"]) -> Float[np.ndarray, "n k"]:
    """Images of `THUMBNAIL` x `THUMBNAIL` pixels, by the means of areas, each without its mean brightness."""
    found = np.concatenate([small.flatten(1).numpy() for small in reduced(pixels, (THUMBNAIL, THUMBNAIL))])
    return found - found.mean(axis=1, keepdims=True)


def difference_hashes(pixels: UInt8[np.ndarray, "n y x 3"]) -> UInt64[np.ndarray, " n"]:
    """64 bits per image: whether each of 8 x 9 areas is brighter than the one to its left."""
    bits = []
    for small in reduced(pixels, (8, 9)):
        grey = small.mean(dim=1)
        bits.append((grey[:, :, 1:] > grey[:, :, :-1]).flatten(1).numpy())
    return np.packbits(np.concatenate(bits), axis=1).view(np.uint64)[:, 0]


def reduced(pixels: UInt8[np.ndarray, "n y x 3"], size: tuple[int, int]) -> Iterator[torch.Tensor]:
    """The means of areas, (b, 3, rows, columns), some images at a time."""
    for start in range(0, max(1, len(pixels)), AT_ONCE):
        images = torch.from_numpy(pixels[start : start + AT_ONCE]).movedim(3, 1).float()
        yield adaptive_avg_pool2d(images, size)


def check_copies(data: Dataset, duplicates: Duplicates) -> tuple[Dataset, list[str]]:
    """The data, without copies for "drop", and sentences on the copies that there are.

    Raises `DataError` for copies if they are not allowed.
    """
    splits = {name: data.split(name) for name in PREFERRED if name in data.splits}
    found = find_copies(splits)
    if not found:
        return data, []
    sentences = describe(found)
    if duplicates == "fail":
        raise DataError(" ".join([*sentences, "Remove the copies, or: --duplicates drop."]))
    if duplicates == "keep":
        return data, [*sentences, "To use each image once: --duplicates drop."]
    left = without(data, splits, found)
    return left, [*sentences, f"--duplicates drop: {dropped_words(splits, left)} were left out."]


def describe(found: Sequence[Copies], pairs: bool = True) -> list[str]:
    """Sentences on copies across splits, with different labels, and of one split, with the first `pairs` of each."""

    def named(some: Sequence[Copies]) -> str:
        return f": {pairs_in_words(some)}." if pairs else "."

    across = [one for one in found if len(one.splits) > 1]
    inside = [one for one in found if len(one.splits) == 1]
    contradict = [one for one in found if not one.labels_agree]
    held_out = sum(member.split != "train" for one in across for member in one.members)
    sentences = []
    if across:
        sentences.append(
            f"{held_out} validation or test images are copies of images in another split, so figures are too good"
            + named(across)
        )
    if contradict:
        sentences.append(f"Copies have different labels in {one_or_many(len(contradict), 'case')}{named(contradict)}")
    if inside:
        extra = sum(len(one.members) - 1 for one in inside)
        sentences.append(f"{extra} images are copies of others in their split{named(inside)}")
    return sentences


def pairs_in_words(found: Sequence[Copies]) -> str:
    pairs = [f"{one.members[-1].file} and {one.members[0].file}" for one in found[:SHOWN]]
    return "; ".join(pairs) + ("; ..." if len(found) > SHOWN else "")


def without(data: Dataset, splits: Mapping[SplitName, Split], found: Sequence[Copies]) -> Dataset:
    """The data with one image of each group, in the first of `PREFERRED` that has it; none if their labels differ."""
    gone: dict[SplitName, set[int]] = {name: set() for name in splits}
    for one in found:
        kept = one.members[0] if one.labels_agree else None  # members are in the order of `PREFERRED`
        for member in one.members:
            if member is not kept:
                gone[member.split].add(member.index)
    left = {
        name: split.only(np.array([index for index in range(len(split)) if index not in gone[name]], dtype=int))
        for name, split in splits.items()
    }
    if empty := [name for name, split in left.items() if not len(split)]:
        raise DataError(f"Without copies, {data.name} has no {empty[0]} images. Add images that are not copies.")
    return replace(data, read=lambda name: left[name])


def dropped_words(splits: Mapping[SplitName, Split], left: Dataset) -> str:
    counts = {name: len(split) - len(left.load(name)) for name, split in splits.items()}
    return " and ".join(f"{count} {name} images" for name, count in counts.items() if count)
