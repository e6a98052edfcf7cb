"""A folder of images with a mask each: `images/` and `masks/`, in the folder or in its `train/`, `val/` and `test/`.

Or the splits are within them: `images/train/` and `masks/train/`.
An image and its mask have the same name, whatever their suffixes. A mask has the class index of each pixel; 255 is
ignored, in training and in figures. Every mask is read once before training: what is wrong with any is said at once.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitral.base.errors import DataError, ImageError
from vitral.base.mask_values import IGNORED, MOST_CLASSES
from vitral.base.plural import one_or_many
from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Dataset, Split
from vitral.data.division import Division, divide, parts_of, with_contents
from vitral.data.examples import check_errors, images_in, is_image, of_split
from vitral.data.image import PillowWarningsOff
from vitral.data.mask_file import Colour, read_mask
from vitral.data.mask_names import MaskClasses, read_mask_classes
from vitral.data.preprocess import crop_and_resize_mask
from vitral.data.read_pixels import read_pixels
from vitral.data.reading import Reading
from vitral.data.split_folders import SPLIT_NAMES, split_folders
from vitral.data.split_table import SPLITS, SplitName
from vitral.data.table_file import Report

IMAGES, MASKS = "images", "masks"
# What others call them, in lower case.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "annotations", "segmentation", "segmentations", "gt"),
    *("segmentationclass", "segmentationobject", "segmentationclassaug"),
)
SHOWN = 3  # file names in a message
ORIENTATION = 274  # the EXIF tag
MUCH_IGNORED = 0.5
MANY = 64  # values without names, from which they are no classes but smoothed edges, or colours


@dataclass(frozen=True)
class Pair:
    """An image, its mask, and the part of their paths that both share."""

    image: Path
    mask: Path
    name: str
    content: str = ""  # the SHA-256 of the image's file, once it is known


@dataclass(frozen=True)
class Checked:
    """What one mask was found to hold: the pixels of each value, its palette, and what is wrong with it."""

    pair: Pair
    pixels: dict[int, int]
    palette: Mapping[int, Colour] | None = None
    other_size: str = ""
    is_rotated: bool = False
    has_one_bit: bool = False
    error: str = ""


def is_mask_folder(root: Path) -> bool:
    """Whether there are `images/` and `masks/`, in the folder or in that of a split."""
    homes = (root, *split_folders(root).values())
    return any((home / IMAGES).is_dir() and (home / MASKS).is_dir() for home in homes)


def photographs_in(folder: Path, report: Report) -> list[Path]:
    """The images in a folder and its sub-folders, without the masks that belong to some of them."""
    found = images_in(folder)
    if not is_mask_folder(folder):
        return found
    images = [path for path in found if MASKS not in path.relative_to(folder).parts]
    report(f"{folder}: {one_or_many(len(found) - len(images), 'file')} in {MASKS}/ taken for masks and left out.")
    return images


def check_not_images_and_masks(root: Path, names: Sequence[str]) -> None:
    """Raise `DataError` for folders that would be two classes, but are images and their masks by their names."""
    images, masks = ([name for name in names if name.lower() in known] for known in (IMAGE_FOLDERS, MASK_FOLDERS))
    if images and masks:
        raise DataError(
            f"{root} has {' and '.join(f'{name}/' for name in (*images, *masks))}. For segmentation rename the folder "
            f"of images to {IMAGES}/ and the folder of masks to {MASKS}/; if they are classes, specify so: --data "
            "FOLDER:task=one_class."
        )


def mask_folder(
    root: Path, preprocessing: Preprocessing, division: Division, reading: Reading, whole: bool = False
) -> Dataset:
    """The images and masks as a data set for segmentation; `whole` as in `folder`.

    `reading.report` gets a sentence for everything that was assumed or left out. Raises `DataError` for masks that do
    not fit their images or each other, with the number of files and the first of them.
    """
    report = reading.report
    homes = split_homes(root, report)
    if "train" not in homes and not whole:
        raise DataError(
            f"{root} has {' and '.join(homes)}, but no train/ with {IMAGES}/ and {MASKS}/, which determines the "
            f"classes. To divide what is there, move it to {root.name}/{IMAGES}/ and {root.name}/{MASKS}/."
        )
    pairs = {split: pairs_in(*home, report) for split, home in homes.items()}
    classes = read_mask_classes(root, report)
    every = [pair for own in pairs.values() for pair in own]
    with ThreadPoolExecutor() as pool:
        checked = list(pool.map(lambda pair: check_pair(pair, classes), every))
    refuse_bad_masks(checked)
    names, binary = class_names(root, checked, classes, report)
    report_doubts(checked, binary, report)
    has_splits = homes.get("train", ())[:1] != (root / IMAGES,)
    used_whole = whole and not has_splits
    stated: list[SplitName | None] = [split for split, own in pairs.items() for _ in own]
    if used_whole:
        stated = ["test"] * len(every)
        report(f"{root} has no split folders: all of its {len(every):,} images are used.")
    rows = divide(root, [pair.image for pair in every], stated, np.zeros(len(every), int), division, report)
    every = with_contents(every, rows)
    parts = dict.fromkeys(SPLITS, every) if used_whole else parts_of(every, rows)
    return Dataset(
        str(root),
        names,
        preprocessing,
        lambda split: load_pairs(of_split(parts, split, root), classes, binary, preprocessing, split, reading),
        "segmentation",
        tuple(parts),
        tuple(row for row in rows if row is not None),
    )


def split_homes(root: Path, report: Report) -> dict[SplitName, tuple[Path, Path]]:
    """The folders of images and of masks: those of each split, or one of each for all.

    Raises `DataError` for a split that has only one of them.
    """
    whole = root / IMAGES, root / MASKS
    images, masks = (split_folders(home) for home in whole)
    inside = "train" in images and "train" in masks
    if inside:
        found = {
            split: (images.get(split, whole[0] / split), masks.get(split, whole[1] / split))
            for split in SPLIT_NAMES
            if split in images or split in masks
        }
        if loose := [path for home in whole for path in sorted(home.iterdir()) if is_image(path)]:
            report(
                f"{one_or_many(len(loose), 'image')} directly in {IMAGES}/ or {MASKS}/, such as {loose[0]}, "
                f"{'is' if len(loose) == 1 else 'are'} in no split and left out."
            )
    else:
        found = {split: (home / IMAGES, home / MASKS) for split, home in split_folders(root).items()}
    homes: dict[SplitName, tuple[Path, Path]] = {}
    for split, home in found.items():
        if lacking := [part for part in home if not part.is_dir()]:
            if not inside and whole[0].is_dir():
                continue  # a folder of another kind beside images/ and masks/
            raise DataError(
                f"There is no {lacking[0]}. Each split has {IMAGES}/ and {MASKS}/: move images without masks elsewhere."
            )
        homes[split] = home
    if whole[0].is_dir() and not inside:
        if homes:
            report(f"{root} has {IMAGES}/ and split folders with {IMAGES}/: only {whole[0]} is read.")
        return {"train": whole}
    return homes


def pairs_in(image_home: Path, mask_home: Path, report: Report) -> list[Pair]:
    """Images and masks of the same name, sorted; what has no counterpart is counted. Raises `DataError` for none."""
    images = by_name(image_home, images_in(image_home))
    masks = by_name(mask_home, images_in(mask_home))
    both = sorted(images.keys() & masks.keys())
    if not both:
        some = ", ".join(sorted(images)[:SHOWN]) or "none"
        others = ", ".join(sorted(masks)[:SHOWN]) or "none"
        raise DataError(
            f"No image in {image_home} has a mask of its name in {mask_home}. Images: {some}; masks: {others}. An "
            f"image {IMAGES}/a.jpg has the mask {MASKS}/a.png."
        )
    for these, those, what in ((images, masks, "{} without a mask"), (masks, images, "{} without an image")):
        if alone := sorted(these.keys() - those.keys()):
            kind = what.format(one_or_many(len(alone), "image" if these is images else "mask"))
            some = ", ".join(str(these[name]) for name in alone[:SHOWN]) + ", ..." * (len(alone) > SHOWN)
            report(f"{kind} {'was' if len(alone) == 1 else 'were'} left out: {some}.")
    return [Pair(images[name], masks[name], name) for name in both]


def by_name(home: Path, paths: Sequence[Path]) -> dict[str, Path]:
    """Files by their path without its suffix. Raises `DataError` for two of one name."""
    found: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(home).with_suffix("").as_posix()
        if name in found:
            raise DataError(f"{home} has {found[name].name} and {path.name}: one name, two files. Keep one.")
        found[name] = path
    return found


def check_pair(pair: Pair, stated: MaskClasses | None) -> Checked:
    """What the mask holds, and whether it fits its image, whose header alone is read."""
    try:
        mask = read_mask(pair.mask, stated.colours if stated else None)
    except (DataError, ImageError) as error:
        return Checked(pair, {}, error=str(error))
    values, counts = np.unique(mask.values, return_counts=True)
    one_bit = mask.has_one_bit
    pixels = dict(zip(values.tolist(), counts.tolist()))
    try:
        with PillowWarningsOff(), Image.open(pair.image) as image:
            orientation = image.getexif().get(ORIENTATION, 1)
            width, height = image.size if orientation in range(5) else image.size[::-1]
    except Exception:  # the image itself is read, and judged, later
        return Checked(pair, pixels, mask.palette, has_one_bit=one_bit)
    size = ""
    if mask.values.shape != (height, width):
        rows, columns = mask.values.shape
        size = f"{pair.mask} is {rows}x{columns}, its image {height}x{width}"
    return Checked(pair, pixels, mask.palette, size, orientation != 1, one_bit)


def refuse_bad_masks(checked: Sequence[Checked]) -> None:
    """Raise `DataError` for masks that cannot be read, of another size than their image, or with different palettes."""
    if bad := [one.error for one in checked if one.error]:
        more = f" In all, {len(bad)} of {len(checked)} masks cannot be used." if len(bad) > 1 else ""
        raise DataError(f"{bad[0]}{more}")
    if sizes := [one.other_size for one in checked if one.other_size]:
        more = f" ({len(sizes)} of {len(checked)} masks do not fit)" if len(sizes) > 1 else ""
        raise DataError(
            f"{sizes[0]}{more}. A mask has one pixel for each pixel of its image: save each mask in its image's size."
        )
    first: dict[int, tuple[Colour | None, Path]] = {}
    for one in checked:
        for value in one.pixels if one.palette is not None else ():
            assert one.palette is not None
            colour, path = first.setdefault(value, (one.palette.get(value), one.pair.mask))
            if colour != one.palette.get(value):
                raise DataError(
                    f"{path} and {one.pair.mask} have different palettes: value {value} is {colour} in one and "
                    f"{one.palette.get(value)} in the other, so it may be two classes. Save all masks with one "
                    "palette, or as grey class indices."
                )


def class_names(
    root: Path, checked: Sequence[Checked], stated: MaskClasses | None, report: Report
) -> tuple[tuple[str, ...], bool]:
    """The names, and whether 255 is a class rather than what is ignored: where masks hold 0 and 255 alone."""
    values = sorted({value for one in checked for value in one.pixels})
    binary = values in ([0, IGNORED], [IGNORED])
    used = [value for value in values if value != IGNORED or binary]
    if binary:
        names = stated.names if stated else ("background", "foreground")
        if len(names) != 2:
            raise DataError(
                f"{stated.source if stated else root} names {len(names)} classes, but masks hold 0 and 255 alone."
            )
        report(f"{root}: masks hold 0 and 255 alone, so 255 is read as class 1, {names[1]}, not as ignored pixels.")
        return names, True
    top = max(used, default=0)
    if stated is not None:
        check_known(checked, used, stated)
        if absent := [stated.names[value] for value in range(len(stated.names)) if value not in used]:
            report(f"{root}: no mask has a pixel of {', '.join(absent)}.")
        return stated.names, False
    if not used or top < 1:
        raise DataError(
            f"{root}: every mask holds the value {used[0] if used else IGNORED} alone. Masks need two classes or more."
        )
    if len(used) > MANY and min(used) >= 0 and top <= IGNORED:
        raise DataError(
            f"{root}: masks hold {len(used)} values, from {min(used)} to {top}, and no file names them. If edges are "
            "smoothed (antialiased), save masks without; if there are so many classes, list them in classes.txt."
        )
    if top >= MOST_CLASSES or min(used) < 0:
        raise DataError(
            f"{root}: masks hold values from {min(used)} to {top}; class indices are 0 to {MOST_CLASSES - 1}. If they "
            "are colours or instances, save class indices instead."
        )
    if top == 1 and (mixed := [one for one in checked if IGNORED in one.pixels and 1 not in one.pixels]):
        others = [one for one in checked if 1 in one.pixels]
        raise DataError(
            f"{root}: {one_or_many(len(mixed), 'mask')} hold 0 and 255, such as {mixed[0].pair.mask}, and "
            f"{len(others)} hold 1, such as {others[0].pair.mask}: 255 would be ignored in training. Save the object "
            "as one value; or list the classes in classes.txt if 255 is to be ignored."
        )
    if gaps := sorted(set(range(top + 1)) - set(used)):
        # 0, 85, 170: grey levels of a drawing program rather than indices. Hundreds of empty classes help nobody.
        if len(gaps) > len(used):
            raise DataError(
                f"{root}: masks hold the values {', '.join(map(str, used[:12]))}, which leaves {len(gaps)} classes "
                "without a pixel. Save class indices 0, 1, 2, ...; or list the classes in classes.txt if the values are"
                " meant so."
            )
        report(f"{root}: no mask has a pixel of class {', '.join(map(str, gaps))}.")
    report(f"{root} has no classes.txt, so classes are named by number, and class 0 is taken for the background.")
    return ("background", *(f"class {index}" for index in range(1, top + 1))), False


def check_known(checked: Sequence[Checked], used: Sequence[int], stated: MaskClasses) -> None:
    """Raise `DataError` for values that no class has."""
    unknown = [value for value in used if not 0 <= value < len(stated.names)]
    if unknown:
        where = [one for one in checked if set(unknown) & one.pixels.keys()]
        pixels = sum(one.pixels.get(value, 0) for one in where for value in unknown)
        raise DataError(
            f"{len(where)} of {len(checked)} masks hold values that {stated.source} does not name: "
            f"{', '.join(map(str, unknown[:12]))} ({pixels:,} pixels; first in {where[0].pair.mask}). Name them, or "
            f"save what is to be ignored as {IGNORED}."
        )


def report_doubts(checked: Sequence[Checked], binary: bool, report: Report) -> None:
    """Say how much is ignored, and that a rotated photograph may not fit its mask."""
    total = sum(count for one in checked for count in one.pixels.values())
    ignored = 0 if binary else sum(one.pixels.get(IGNORED, 0) for one in checked)
    if ignored:
        much = (
            " That is most of them: check that 255 is not meant as a class." if ignored > MUCH_IGNORED * total else ""
        )
        report(f"{ignored / total:.1%} of pixels are {IGNORED}: ignored in training and in figures.{much}")
    one_bit = [one for one in checked if one.has_one_bit]
    if 0 < len(one_bit) < len(checked):
        report(
            f"{len(one_bit)} of {len(checked)} masks have one bit per pixel, such as {one_bit[0].pair.mask}: it is "
            "read as class 0 or 1. In files that a program made smaller, 1 may stand for 255: check them."
        )
    if rotated := [one for one in checked if one.is_rotated]:
        report(
            f"EXIF tags turn {one_or_many(len(rotated), 'image')} upright, such as {rotated[0].pair.image}: masks must "
            "be drawn on the upright image."
        )


def load_pairs(
    pairs: Sequence[Pair],
    stated: MaskClasses | None,
    binary: bool,
    preprocessing: Preprocessing,
    split: SplitName,
    reading: Reading,
) -> Split:
    """Read every image and its mask, cropped and resized alike; a mask takes the nearest pixel's class."""
    files = [pair.image for pair in pairs]
    found = read_pixels(files, [pair.content for pair in pairs], preprocessing, split, reading)
    check_errors(found.errors, files, split, reading)
    masks = np.empty((len(found.kept), *preprocessing.size), np.uint8)

    def read_one(number: int) -> None:
        values = read_mask(pairs[found.kept[number]].mask, stated.colours if stated else None).values
        mask = (values == IGNORED) if binary else values
        masks[number] = crop_and_resize_mask(mask.astype(np.uint8), preprocessing)

    with ThreadPoolExecutor() as pool:
        list(pool.map(read_one, range(len(masks))))
    names = tuple(str(files[index]) for index in found.kept)
    return Split(found.pixels, masks, files=names, source_index=found.source_index)
