"""A folder of the user's own images, one sub-folder a class.

Either `root/CLASS/image.jpg`, which is split here, or `root/train/CLASS/...` with `val/` and `test/` beside it; a split
that is missing there is cut from `train`.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from vitral.base.errors import DataError, ImageError
from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Dataset, Split, SplitName, stratified
from vitral.data.image import SUFFIXES, load_image
from vitral.data.preprocess import fit

SPLITS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
VAL, TEST = 0.15, 0.15

Report = Callable[[str], None]


@dataclass(frozen=True)
class Files:
    """Image files and the class of each."""

    paths: list[Path]
    labels: list[int]

    def __getitem__(self, chosen: list[int] | Int[np.ndarray, " m"]) -> "Files":
        return Files([self.paths[i] for i in chosen], [self.labels[i] for i in chosen])


def folder(
    root: Path,
    preprocessing: Preprocessing,
    seed: int = 0,
    on_bad_image: Literal["fail", "skip"] = "fail",
    report: Report = lambda sentence: None,
) -> Dataset:
    """Class folders as a data set of images cut to `preprocessing.size`; `report` gets what a person should know.

    Raises `DataError` if there are no images, only one class, or too few to hold some out. Loading a split raises
    `ImageError` for a file that is no image, unless `on_bad_image` is `"skip"`.
    """
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. Data is a folder of class folders, or the name of a built-in set.")
    homes = split_homes(root, report)
    home = homes.get("train", root)
    classes = class_names(home, report)
    if not homes and set(classes) <= {name for names in SPLITS.values() for name in names}:
        raise DataError(
            f"{root} has {' and '.join(f'{name}/' for name in classes)}, but no class folders in them. "
            f"Put each class in a folder of its own: {root.name}/train/cat/1.jpg."
        )
    files = {"train": listing(home, classes, report)}
    for split in ("val", "test"):
        if held_out := homes.get(split):
            unknown = sorted(set(class_names(held_out, report, at_least=1)) - set(classes))
            if unknown:
                raise DataError(
                    f"{held_out} has classes that {home} lacks: {', '.join(unknown)}. They could not be learned."
                )
            files[split] = listing(held_out, classes, report)

    missing = [split for split in ("val", "test") if split not in files]
    if missing:
        shares = {"val": VAL, "test": TEST}
        fractions = tuple(shares[split] for split in missing)
        whole = files["train"]
        parts = stratified(np.array(whole.labels), (1 - sum(fractions), *fractions), seed)
        files |= {split: whole[part] for split, part in zip(("train", *missing), parts)}
        if any(not files[split].paths for split in ("train", *missing)):
            raise DataError(
                f"{home} has {len(whole.paths)} images in {len(classes)} classes: too few to hold some out. "
                "Give each class at least 10, or make "
                f"{' and '.join(f'{root.name}/{split}/' for split in missing)} yourself."
            )
        report(
            f"No {' or '.join(missing)} folder: "
            f"{', '.join(f'{len(files[s].paths)} {s}' for s in ('train', *missing))} images, cut by seed {seed}."
        )

    return Dataset(
        str(root),
        classes,
        preprocessing,
        lambda split: decode(files[split], classes, preprocessing, on_bad_image, split, report),
    )


def split_homes(root: Path, report: Report) -> dict[SplitName, Path]:
    """The folders that hold a split's class folders; none if the classes are in `root` itself.

    A folder `test/` of images alone is a class of that name.
    """
    homes: dict[SplitName, Path] = {}
    for split, known in SPLITS.items():
        for name in known:
            if split not in homes and any(images_in(child) for child in folders_in(root / name)):
                homes[split] = root / name
    if homes and "train" not in homes:
        found = next(iter(homes.values()))
        raise DataError(f"{root} has {found.name}/ with class folders, but no train/ beside it to learn from.")
    beside = [child.name for child in folders_in(root) if homes and child not in homes.values() and images_in(child)]
    if beside:
        report(f"{root}: the images in {', '.join(beside)} are in no split and were left out.")
    return homes


def class_names(home: Path, report: Report, at_least: int = 2) -> tuple[str, ...]:
    """The sub-folders that hold images, sorted."""
    children = folders_in(home)
    found = tuple(child.name for child in children if images_in(child))
    empty = [child.name for child in children if child.name not in found]
    if not found:
        raise DataError(
            f"{home} has no images in class folders. Put each class in a folder of its own: {home.name}/cat/1.jpg."
        )
    if len(found) < at_least:
        raise DataError(
            f"{home} has one class only, {found[0]!r}: there is nothing to tell apart. Add a second class folder."
        )
    if odd := [name for name in found if not name.isprintable() or not encodes(name)]:
        raise DataError(f"{home} has a class folder whose name is no readable text: {odd[0]!r}. Rename it.")
    if empty:
        report(f"{home}: there are no images in {', '.join(empty)}, so there is no such class.")
    if stray := sum(is_image(path) for path in home.iterdir()):
        report(f"{home}: {stray} images are in no class folder and were left out.")
    return found


def encodes(name: str) -> bool:
    """Whether a name, as the file system gave it, is text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def folders_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def is_image(path: Path) -> bool:
    """Whether a file is one by its name."""
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def images_in(folder: Path) -> list[Path]:
    """The images below a folder, but for what is hidden."""
    return sorted(path for path in folder.rglob("*") if is_image(path) and not hidden(path, folder))


def hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def listing(home: Path, classes: tuple[str, ...], report: Report) -> Files:
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = images_in(home / name) if (home / name).is_dir() else []
        paths += found
        labels += [label] * len(found)
    within = [path for name in classes for path in (home / name).rglob("*") if not hidden(path, home / name)]
    others = sum(path.is_file() for path in within) - len(paths)
    if linked := [path for path in within if path.is_symlink() and path.is_dir()]:
        report(f"{home}: {len(linked)} links to folders inside classes were not followed, such as {linked[0]}.")
    if others:
        report(f"{home}: {others} files are not images by their names ({', '.join(SUFFIXES)}) and were left out.")
    return Files(paths, labels)


def decode(
    files: Files, classes: tuple[str, ...], preprocessing: Preprocessing, on_bad_image: str, split: str, report: Report
) -> Split:
    """Read every image into memory."""

    def read(path: Path) -> np.ndarray | ImageError:
        try:
            return fit(load_image(path), preprocessing)
        except ImageError as error:
            if on_bad_image == "fail":
                raise ImageError(f"{error} Or leave such files out with --on-bad-image skip.") from error
            return error

    with ThreadPoolExecutor() as pool:
        images = list(pool.map(read, files.paths))
    bad = [path for path, image in zip(files.paths, images) if isinstance(image, ImageError)]
    if bad:
        report(
            f"{len(bad)} of {len(images)} {split} images could not be read and were left out: "
            f"{', '.join(map(str, bad))}."
        )
    good = [i for i, image in enumerate(images) if not isinstance(image, ImageError)]
    if not good:
        raise DataError(f"None of the {len(images)} {split} images could be read.")
    kept = files[good]
    if split == "train" and (lost := [name for label, name in enumerate(classes) if label not in kept.labels]):
        raise DataError(f"No train image of {', '.join(map(repr, lost))} could be read, so it could not be learned.")
    pixels = np.stack([images[i] for i in good])
    return Split(pixels, np.array(kept.labels, dtype=np.int64), files=tuple(map(str, kept.paths)))
