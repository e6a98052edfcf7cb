"""The data of a training run and its model, made to fit each other."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from torch import nn

from vitral.base.answers.numbers import deviation
from vitral.base.answers.several_classes import THRESHOLD
from vitral.base.errors import ConfigError
from vitral.base.lookup import find
from vitral.base.plural import one_or_many
from vitral.base.preprocessing import CropMode, Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.balance import imbalance_advice
from vitral.data.classes import reorder_classes
from vitral.data.copies import check_copies
from vitral.data.dataset import Dataset
from vitral.data.division import DEFAULT, Division, earlier_division
from vitral.data.examples import open_splits
from vitral.data.folder import ImageFolder
from vitral.data.inspection.checks import before_training
from vitral.data.mask_folder import is_mask_folder
from vitral.data.mix import check_mix
from vitral.data.pixel_cache import PixelCache
from vitral.data.spec import find_data
from vitral.data.split_table import read_splits, splits_at, splits_beside
from vitral.nn.family.segmenter import Segmenter, best_decoder
from vitral.nn.parts import Part, find_part
from vitral.nn.zoo import MODELS
from vitral.store.classifier import Classifier, answers
from vitral.store.model import load_model, without_calibration
from vitral.store.numbers_head import with_numbers_head
from vitral.store.training_images import without_statistics
from vitral.tasks.inputs import open_model, read_data
from vitral.tasks.progress import Progress
from vitral.training.few_images import few_images_advice
from vitral.training.recipe import Recipe
from vitral.weights.create import create
from vitral.weights.transfer import transfer_encoder, transfer_weights

PHOTO = 64  # pixels: the side of a folder's images for a model that does not specify one


def prepare(
    recipe: Recipe, progress: Progress, resumed: Path | None = None, cache: str | PixelCache = "auto"
) -> tuple[Classifier, Dataset]:
    """The model of a recipe (a new one, one started from `recipe.init`, or that of a resumed run), and its data.

    `cache`: see `find_cache`.
    """
    found = find_data(recipe.data)
    if not recipe.init:
        data = read_training_data(recipe, found, progress, resumed=resumed, cache=cache)
        check_task_settings(recipe, data)
        new = new_model(recipe, data)
        if isinstance(found, ImageFolder) and data.task == "one class" and (advice := few_images_advice(data)):
            progress.note(advice)
        note_imbalance(recipe, data, progress)
        return answer_data(attach_record(new, ModelRecord(data.classes, data.preprocessing)), data, False), data
    # A resumed run has the model it started from in its own folder; the first one may be gone by now.
    model = load_model(resumed) if resumed else open_model(recipe.init, progress)
    # So that neither statistics nor a temperature is saved with other weights.
    model = without_calibration(without_statistics(model, "it is still being trained"))
    preprocessing = model.preprocessing
    if not resumed and (whole := seen_whole(preprocessing, found)) != preprocessing:
        progress.note("  images and masks are resized whole; the trained model cropped its images")
        preprocessing = whole
    data = read_training_data(recipe, found, progress, preprocessing, resumed, cache)
    check_task_settings(recipe, data)
    same_task = data.task == model.record.task
    if sorted(data.classes) == sorted(model.classes) and same_task:
        data = reorder_classes(data, tuple(model.classes))
    if not resumed:
        note_imbalance(recipe, data, progress)
        keeps_head = same_task and tuple(data.classes) == tuple(model.classes)
        if data.task == "segmentation":
            decoder = find_decoder(recipe.decoder, model)
            model, changes = transfer_encoder(model, data.classes, data.preprocessing.size, decoder)
            for change in changes:
                progress.note(f"  {change}")
            return attach_record(model, replace(model.record, preprocessing=data.preprocessing)), data
        model, changes = transfer_weights(model, data.classes, data.preprocessing.size, keeps_head)
        for change in changes:
            progress.note(f"  {change}")
        model = answer_data(model, data, keeps_head)
    return model, data


def note_imbalance(recipe: Recipe, data: Dataset, progress: Progress) -> None:
    """Report rare classes, unless the recipe takes account of them."""
    if data.task == "one class" and not recipe.balances_classes and (advice := imbalance_advice(data)):
        progress.note(advice)


def check_task_settings(recipe: Recipe, data: Dataset) -> None:
    """Raise `UsageError` for a setting with data of a task for which it has no meaning."""
    check_mix(recipe.mix, data.task, recipe.data)
    if recipe.class_weights != "none" and data.task not in ("one class", "segmentation"):
        raise ConfigError(
            f"--class-weights weighs exclusive classes, of images or of pixels; the labels of {recipe.data} are "
            f"{data.task}."
        )
    if recipe.sampling != "all" and data.task != "one class":
        raise ConfigError(
            f"--sampling balanced shows each class equally often; the labels of {recipe.data} are {data.task}."
        )
    start = Recipe()
    given = [name for name in ("dice", "decoder") if getattr(recipe, name) != getattr(start, name)]
    if given and data.task != "segmentation":
        raise ConfigError(
            f"--{given[0].replace('_', '-')} is for segmentation; the labels of {recipe.data} are {data.task}."
        )


def new_model(recipe: Recipe, data: Dataset) -> nn.Module:
    """The untrained model of a recipe; for segmentation one of Vitral's becomes the encoder of a segmenter.

    The reader's own module returns masks itself.
    """
    size, count = data.preprocessing.size, len(data.classes)
    if data.task != "segmentation" or recipe.model not in MODELS:
        return create(recipe.model, num_classes=count, img_size=size)
    encoder = create(recipe.model, num_classes=0, img_size=size)
    return Segmenter(encoder, count, find_decoder(recipe.decoder, encoder))


def find_decoder(name: str, model: nn.Module) -> Part:
    """The decoder of this name; for "auto" the one that a segmenter has already, or that suits the encoder."""
    config: Any = getattr(model, "config", {})
    if name == "auto" and isinstance(model, Segmenter):
        return find_part(config["decoder"])
    return find("nn.family.decoders", best_decoder(model) if name == "auto" else name, "decoder")


def answer_data(model: Classifier, data: Dataset, keeps_head: bool) -> Classifier:
    """The model with the record of the data's task, and for numbers a head that gives them in the data's unit."""
    thresholds = (THRESHOLD,) * len(data.classes) if data.task == "several classes" else None
    answering = cast(Classifier, attach_record(model, replace(model.record, task=data.task, thresholds=thresholds)))
    if data.task == "numbers":
        black = np.zeros((1, *model.preprocessing.size, 3), np.uint8)
        before = answers(answering, black)
        with_numbers_head(answering, data.train.labels, keeps_head)
        check_numbers(answering, before, answers(answering, black), data, keeps_head)
    return answering


def check_numbers(
    model: Classifier,
    before: Float[np.ndarray, "1 k"],
    after: Float[np.ndarray, "1 k"],
    data: Dataset,
    keeps_head: bool,
) -> None:
    """Raise `ConfigError` unless the model's answer is its head's, scaled: a sigmoid after it would undo the scale."""
    labels = data.train.labels
    expected = before if keeps_head else before * deviation(labels) + labels.mean(axis=0)
    if not np.allclose(after, expected, rtol=1e-3, atol=1e-3 * float(deviation(labels).max())):
        raise ConfigError(
            f"{type(model).__name__} changes what its last linear layer returns, so its numbers cannot be scaled to "
            "the unit of the data. Return that layer's output as it is."
        )


def read_training_data(
    recipe: Recipe,
    found: Dataset | ImageFolder,
    progress: Progress,
    preprocessing: Preprocessing | None = None,
    resumed: Path | None = None,
    cache: str | PixelCache = "auto",
) -> Dataset:
    """The data of a recipe, every file of which was read; copies among a folder's images are reported."""
    data = open_splits(read_recipe_data(recipe, found, progress, preprocessing, resumed, cache))
    if isinstance(found, ImageFolder):
        if recipe.init and not resumed:
            note_trained_before(data, Path(recipe.init), progress)
        data, sentences = check_copies(data, recipe.duplicates)
        if recipe.duplicates == "drop":  # the table of the run has what it uses
            left = {os.path.relpath(file, data.name) for name in data.splits for file in data.split(name).files}
            data = replace(data, rows=tuple(row for row in data.rows if row.path.replace("/", os.sep) in left))
        for sentence in sentences:
            progress.note(sentence)
        if not resumed:
            for one in before_training(data, lambda done, total: progress.count("files", done, total)):
                progress.note(f"{one.text} {one.advice}")
    return data


def note_trained_before(data: Dataset, init: Path, progress: Progress) -> None:
    """Warn of images that are held out here, but trained the run that this one starts from."""
    table = splits_beside(init)
    trained = {row.content for row in read_splits(table) if row.split == "train"} if table else set()
    if seen := [row.path for row in data.rows if row.split != "train" and row.content in trained]:
        progress.note(
            f"warning: {init} was trained on {one_or_many(len(seen), 'validation or test image')}, such as {seen[0]}: "
            "figures are too good."
        )


def read_recipe_data(
    recipe: Recipe,
    found: Dataset | ImageFolder,
    progress: Progress,
    preprocessing: Preprocessing | None = None,
    resumed: Path | None = None,
    cache: str | PixelCache = "auto",
) -> Dataset:
    """The data of a recipe, which `find_data` has found; a folder's images are prepared for the recipe's model.

    A resumed run has the images that it had, and no others.

    Raises `ConfigError` for an `img_size`, a `crop_mode` or groups of a built-in set, and for masks that would be cut.
    """
    if isinstance(found, Dataset) and recipe.img_size:
        raise ConfigError(
            "--img-size applies to folders of images; specify the size of a built-in data set in its name: "
            f"{recipe.data.partition(':')[0]}:size={recipe.img_size}."
        )
    if isinstance(found, Dataset) and recipe.crop_mode != "auto":
        raise ConfigError(
            f"--crop-mode {recipe.crop_mode} applies to folders of images; those of {recipe.data.partition(':')[0]} "
            "are square."
        )
    if isinstance(found, Dataset) and recipe.group_by:
        raise ConfigError(
            f"--group-by applies to folders of images; {recipe.data.partition(':')[0]} is built in, with its splits."
        )
    if preprocessing is None:
        side = MODELS[recipe.model].settings["img_size"] if recipe.model in MODELS else PHOTO
        preprocessing = seen_whole(Preprocessing(size=(side, side)), found)
    if recipe.img_size:
        preprocessing = replace(preprocessing, size=(recipe.img_size, recipe.img_size))
    if recipe.crop_mode != "auto":
        preprocessing = with_crop_mode(preprocessing, recipe.crop_mode, found)
    division = division_of(recipe, resumed) if isinstance(found, ImageFolder) else DEFAULT
    return read_data(found, preprocessing, progress, division, recipe.on_bad_image, cache=cache)


def division_of(recipe: Recipe, resumed: Path | None) -> Division:
    """How the images of a recipe's folder are divided: as in the resumed run, in `recipe.splits`, or in `recipe.init`.

    Raises `DataError` for a table that does not exist or contradicts itself.
    """
    if resumed:
        table = splits_beside(resumed)
    elif recipe.splits:
        table = splits_at(Path(recipe.splits))
    else:
        table = splits_beside(Path(recipe.init)) if recipe.init else None
    before = DEFAULT if table is None else earlier_division(table)
    groups = recipe.group_by or before.group_by
    own = replace(before, seed=recipe.seed, val=recipe.val_split, test=recipe.test_split, group_by=groups)
    return replace(own, only_known=bool(resumed and before.known))


def seen_whole(preprocessing: Preprocessing, found: Dataset | ImageFolder) -> Preprocessing:
    """For images with masks the preprocessing that cuts nothing off, since every pixel has an answer."""
    if isinstance(found, ImageFolder) and is_mask_folder(found.path):
        return replace(preprocessing, crop=1.0, crop_mode="squash")
    return preprocessing


def with_crop_mode(preprocessing: Preprocessing, mode: CropMode, found: Dataset | ImageFolder) -> Preprocessing:
    """The preprocessing with this `--crop-mode`; squash cuts nothing off, whatever the model did before.

    Raises `ConfigError` for masks that would be cut.
    """
    if mode == "squash":
        return replace(preprocessing, crop=1.0, crop_mode=mode)
    if isinstance(found, ImageFolder) and is_mask_folder(found.path):
        raise ConfigError("--crop-mode center cuts off pixels that have an answer in the masks: leave it out.")
    return replace(preprocessing, crop_mode=mode)
