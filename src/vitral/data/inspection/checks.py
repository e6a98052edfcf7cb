"""What may be wrong with a folder of images: each check looks at one thing and says what to do about it."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from vitral.base.mask_values import IGNORED
from vitral.data.balance import RATIO
from vitral.data.class_names import list_names, missing_classes
from vitral.data.copies import PREFERRED, Copies, describe
from vitral.data.dataset import Dataset
from vitral.data.image import first_page_only
from vitral.data.inspection.files import FileFacts, facts_of
from vitral.data.preprocess import window_of

Level = Literal["must", "should", "note"]  # be mended before training; be looked at; is good to know
FEW = 10  # images of a class, below which its held-out figures are of one or two images
CUT = 0.25  # of an image outside the window that the model sees, from which it is reported
SMALL = 0.5  # of the model's size, below which an image has too little detail
# Cameras and scanners give 12 to 14 bits, some programs 8, in files of 16, of which they are a dark corner.
ONE_DARK, ALL_DARK = 12, 14  # bits of a file, from which down it is reported; and of all files


@dataclass(frozen=True)
class Finding:
    """What was found, under which heading, how much it matters, what to do about it, and the files it is about."""

    level: Level
    title: str
    text: str
    advice: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspected:
    """All that the checks look at. `data` is None, and `error` says why, if the folder cannot be read as a data set.

    `unreadable` has a sentence for each file that cannot be read, and `reported` what was assumed or left out.
    """

    root: Path
    facts: Sequence[FileFacts]
    data: Dataset | None = None
    error: str = ""
    unreadable: Sequence[str] = ()
    reported: Sequence[str] = ()
    copies: Sequence[Copies] = field(default_factory=tuple)


def not_a_data_set(found: Inspected) -> Iterator[Finding]:
    if found.error:
        yield Finding("must", "Not a data set", found.error)


def unreadable_files(found: Inspected) -> Iterator[Finding]:
    if found.unreadable:
        yield Finding(
            "must",
            "Files that cannot be read",
            f"{len(found.unreadable)} files cannot be read.",
            "Replace or remove them, or train with --on-bad-image skip.",
            tuple(found.unreadable),
        )


def classes_without_tests(found: Inspected) -> Iterator[Finding]:
    if found.data is None or found.data.task not in ("one class", "several classes"):
        return
    for split in ("val", "test"):
        labels = getattr(found.data, split).labels
        if absent := missing_classes(labels, found.data.classes):
            yield Finding(
                "should",
                "Classes that are not tested",
                f"No {split} images of {list_names(absent)}: {split} figures say nothing about these classes.",
                f"Add images, or move some of theirs to {split}.",
            )


def sizes_of_classes(found: Inspected) -> Iterator[Finding]:
    """Rare classes, and classes that outnumber others."""
    if found.data is None or found.data.task != "one class":
        return
    names = found.data.classes
    parts = [np.bincount(getattr(found.data, split).labels, minlength=len(names)) for split in PREFERRED]
    counts = np.sum(parts, axis=0)
    if len(few := np.flatnonzero(counts < FEW)):
        some = list_names([f"{names[index]} ({counts[index]})" for index in few])
        yield Finding(
            "should", "Rare classes", f"Fewer than {FEW} images: {some}.", "Add images, or leave these classes out."
        )
    if counts.max() >= RATIO * counts.min():
        most, least = names[int(counts.argmax())], names[int(counts.argmin())]
        yield Finding(
            "should",
            "Classes of different size",
            f"Classes differ in size: {most} has {counts.max():,} images, {least} {counts.min():,}. Always "
            f"predicting {most} is right for {counts.max() / counts.sum():.1%}.",
            "Compare balanced accuracies; train with --class-weights balanced.",
        )


def similar_names(found: Inspected) -> Iterator[Finding]:
    """Class names that only case, spaces or the form of an accent tell apart."""
    if found.data is None:
        return
    alike = defaultdict(list)
    for name in found.data.classes:
        alike[unicodedata.normalize("NFKC", name).casefold().strip()].append(name)
    for names in alike.values():
        if len(names) > 1:
            shown = " and ".join(repr(name) for name in names)
            yield Finding(
                "should",
                "Class names that are alike",
                f"The classes {shown} have nearly the same name.",
                "Join their folders if they are one class.",
            )


def copied_images(found: Inspected) -> Iterator[Finding]:
    if found.copies:
        files = tuple(f"{one.members[-1].file} = {one.members[0].file}" for one in found.copies)
        harms = any(len(one.splits) > 1 or not one.labels_agree for one in found.copies)
        advice = "Remove the copies, or train with --duplicates drop."
        yield Finding(
            "should" if harms else "note", "Copies", " ".join(describe(found.copies, pairs=False)), advice, files
        )


def dark_files(found: Inspected) -> Iterator[Finding]:
    """Files of 16 bits whose values need fewer: a file alone may be dark, but hardly all files of a camera."""
    deep = [one for one in found.facts if one.bits]
    least = ONE_DARK if any(one.bits > ALL_DARK for one in deep) else ALL_DARK
    if dark := [one for one in deep if one.bits <= least]:
        largest = max(one.largest for one in dark)
        yield Finding(
            "should",
            "Images of fewer bits than their files",
            f"{len(dark)} files of 16 bits have no value above {largest:,}: they seem to hold {largest.bit_length()} "
            f"bits, and are read with {(largest + 1) / 65_536:.1%} of the brightness that they can have.",
            "Scale their values to 16 bits, or convert them to 8.",
            tuple(str(one.path) for one in dark),
        )


def cut_images(found: Inspected) -> Iterator[Finding]:
    """Images of which the model sees only a part."""
    if found.data is None:
        return
    outside = []
    for one in found.facts:
        left, top, right, bottom = window_of((one.height, one.width), found.data.preprocessing)
        outside.append(1 - (right - left) * (bottom - top) / (one.height * one.width))
    if wide := [(share, one) for share, one in zip(outside, found.facts) if share > CUT]:
        share, worst = max(wide, key=lambda pair: pair[0])
        yield Finding(
            "should",
            "Images that are cut",
            f"In {len(wide)} of {len(found.facts)} images the model sees less than {1 - CUT:.0%} of the pixels, since "
            f"their sides are cut off: {1 - share:.0%} in {worst.path} ({worst.width} x {worst.height}).",
            "If what matters may be near the sides, train with --crop-mode squash, which keeps them whole.",
            tuple(str(one.path) for _, one in wide),
        )


def small_images(found: Inspected) -> Iterator[Finding]:
    if found.data is None:
        return
    height, width = found.data.preprocessing.size
    if small := [one for one in found.facts if one.height < SMALL * height or one.width < SMALL * width]:
        least = min(small, key=lambda one: one.height * one.width)
        yield Finding(
            "should",
            "Small images",
            f"{len(small)} of {len(found.facts)} images are less than half as large as the {width} x {height} pixels "
            f"that the model takes; {least.path} has {least.width} x {least.height}.",
            "Use larger images, or a smaller --img-size.",
            tuple(str(one.path) for one in small),
        )


def several_pages(found: Inspected) -> Iterator[Finding]:
    if sentence := first_page_only(one.path for one in found.facts if one.pages > 1):
        yield Finding("should", "Files of several pages", sentence, "Save each page as an image of its own.")
    if moving := [one for one in found.facts if one.pages > 1 and one.format != "TIFF"]:
        yield Finding(
            "note",
            "Animations",
            f"{len(moving)} files are animations, such as {moving[0].path}: the first frame is used.",
        )


def kinds_of_files(found: Inspected) -> Iterator[Finding]:
    """Formats, colour modes and the range of sizes."""
    if not found.facts:
        return
    formats, modes = (Counter(getattr(one, name) for one in found.facts) for name in ("format", "mode"))
    heights, widths = ([getattr(one, name) for one in found.facts] for name in ("height", "width"))
    yield Finding(
        "note",
        "Files",
        f"{len(found.facts):,} images: {counted(formats)}; modes {counted(modes)}; {min(widths):,} to {max(widths):,} "
        f"pixels wide, {min(heights):,} to {max(heights):,} high.",
    )


def counted(counts: "Counter[str]") -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


def ignored_pixels(found: Inspected) -> Iterator[Finding]:
    if found.data is not None and found.data.task == "segmentation":
        share = float((found.data.train.labels == IGNORED).mean())
        if share:
            yield Finding(
                "note",
                "Ignored pixels",
                f"{share:.1%} of the pixels of training masks are {IGNORED}, which is ignored.",
            )


def what_was_reported(found: Inspected) -> Iterator[Finding]:
    """What reading the folder said: which split was made here, what was left out."""
    yield from (Finding("note", "How the folder is read", sentence) for sentence in found.reported)


CHECKS: tuple[Callable[[Inspected], Iterator[Finding]], ...] = (
    not_a_data_set,
    unreadable_files,
    copied_images,
    classes_without_tests,
    sizes_of_classes,
    similar_names,
    dark_files,
    cut_images,
    small_images,
    several_pages,
    ignored_pixels,
    kinds_of_files,
    what_was_reported,
)


# Those that training reports, too. It says by itself what else concerns it: bad files, copies, rare classes.
BEFORE_TRAINING = (similar_names, dark_files, cut_images, small_images)


def before_training(data: Dataset, count: Callable[[int, int], None]) -> list[Finding]:
    """What should be looked at before a folder's images are trained on; `count` gets how many files were opened."""
    files = [Path(file) for split in data.splits for file in data.split(split).files]
    found = Inspected(Path(data.name), list(facts_of(files, count)), data)
    return [one for check in BEFORE_TRAINING for one in check(found)]


def findings(found: Inspected) -> list[Finding]:
    """All findings, the most important first."""
    order = ("must", "should", "note")
    return sorted((one for check in CHECKS for one in check(found)), key=lambda one: order.index(one.level))
