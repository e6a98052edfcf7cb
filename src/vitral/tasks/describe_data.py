"""Describe a data set: its classes and counts, and a contact sheet of its images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from vitral.base.answer import answer_for
from vitral.base.errors import UsageError
from vitral.base.files import unused_path, write_file
from vitral.base.mask_values import background_of
from vitral.data import OnBadImage
from vitral.data.dataset import Dataset, Split
from vitral.data.mix import check_mix
from vitral.data.spec import find_data
from vitral.report.contact import MAX_COLUMNS, contact_figure
from vitral.report.masks import class_colours, overlaid
from vitral.report.style import png
from vitral.tasks.prepare import read_recipe_data
from vitral.tasks.progress import Progress, progress_for
from vitral.tasks.show_augmented import draw_augmented
from vitral.training.recipe import Recipe, preset


@dataclass(frozen=True)
class DataDescription:
    """The images of a split and their labels, their (height, width), and the contact sheet's file.

    `labels` describes the labels as their task has them: the images per class, or the range of each number. `dataset`
    has all splits, and `recipe` is what `vitral train` would do with it.
    """

    data: str
    split: str
    n: int
    labels: dict[str, Any]
    size: tuple[int, int]
    sheet: Path
    dataset: Dataset
    recipe: Recipe
    notes: tuple[str, ...] = ()


def describe_data(
    data: str,
    split: Literal["train", "val", "test"] = "train",
    *,
    img_size: int | None = None,
    augment: str | None = None,
    mix: str = "none",
    group_by: str | None = None,
    out: str | Path | None = None,
    on_bad_image: OnBadImage = "fail",
    progress: bool | Progress = False,
) -> DataDescription:
    """Describe the labels of a split, and write a contact sheet, by default `DATA.png` in the current folder.

    With `augment` or `mix`, the sheet shows training images as these change them. `mix` without `augment` has the
    augmentation that training has by default. `group_by` keeps groups of images in one split, as in training.

    Raises `UnknownName` for data that does not exist, `UsageError` for labels that cannot be mixed, `DataError` or
    `ImageError` for images that cannot be read.
    """
    progress = progress_for(progress)
    settings = preset(data) | {"img_size": img_size, "on_bad_image": on_bad_image, "mix": mix, "group_by": group_by}
    recipe = Recipe(**settings | ({"augment": augment} if augment else {}))
    augmented = augment is not None or mix != "none"
    if augmented and split != "train":
        raise UsageError(f"The {split} images are not augmented: leave out --split {split}, or --augment and --mix.")
    dataset = read_recipe_data(recipe, find_data(data), progress)
    check_mix(mix, dataset.task, data)
    images = dataset.load(split)
    answer = answer_for(dataset.task)
    name = Path(data.partition(":")[0]).resolve().name
    sheet = unused_path(Path(out) if out else Path(f"{name}{'.augmented' if augmented else ''}.png"))
    groups = answer.groups(images.labels, dataset.classes)
    if augmented:
        figure = draw_augmented(images, groups, dataset, recipe)
    else:
        groups, some = first_of_groups(groups)
        shown = images.only(some)
        figure = contact_figure(shown_pixels(shown, dataset), groups, shown.masks, f"{data}, {split}")
    write_file(sheet, png(figure))
    height, width = images.pixels.shape[1:3]
    labels = answer.describe(images.labels, dataset.classes)
    return DataDescription(
        data, split, len(images), labels, (height, width), sheet, dataset, recipe, tuple(progress.notes)
    )


def first_of_groups(groups: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The images that a contact sheet may show, and its groups by their places among these."""
    firsts = {name: own[:MAX_COLUMNS] for name, own in groups.items()}
    some = np.unique(np.concatenate([*firsts.values(), np.empty(0, int)])).astype(int)
    return {name: np.searchsorted(some, own) for name, own in firsts.items()}, some


def shown_pixels(images: Split, dataset: Dataset) -> UInt8[np.ndarray, "n y x 3"]:
    """The images as a contact sheet shows them: for segmentation each beside the colours of its mask."""
    if dataset.task != "segmentation":
        return images.pixels
    names = dataset.classes
    background = background_of(names)
    colours = class_colours(names, background)
    masks = np.stack([overlaid(*pair, colours, background) for pair in zip(images.pixels, images.labels)])
    return np.concatenate([images.pixels, masks], axis=2)
