"""Data by name or path, and the model of a training run, made to fit each other."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import nn

from vitral.base.errors import ConfigError, UnknownName
from vitral.base.lookup import nearest
from vitral.base.preprocessing import Preprocessing
from vitral.data.dataset import Dataset
from vitral.data.fits import in_order
from vitral.data.folder import folder
from vitral.data.named import named
from vitral.nn.zoo import MODELS, create
from vitral.store.classifier import Classifier
from vitral.store.code import from_code, is_code
from vitral.store.model import dress, load
from vitral.tasks.opening import opened
from vitral.tasks.progress import Progress
from vitral.training.recipe import Recipe
from vitral.weights.start import started

PHOTO = 64  # pixels: the side of a folder's images for a model that does not specify one


@dataclass(frozen=True)
class Prepared:
    """A model and its data; `is_folder` if the data is a folder of the user's own images."""

    model: Classifier
    data: Dataset
    is_folder: bool


def prepare(recipe: Recipe, progress: Progress, resumed: Path | None = None) -> Prepared:
    """The data of a recipe, and its model: a new one, one started from `recipe.init`, or that of a resumed run."""
    found = named(recipe.data)
    if not recipe.init:
        data = read_recipe_data(recipe, found, progress)
        new = new_model(recipe.model, len(data.classes), data.preprocessing.size)
        return Prepared(dress(new, list(data.classes), data.preprocessing, {}), data, isinstance(found, Path))
    # A resumed run has the model it started from in its own folder; the first one may be gone by now.
    model = load(resumed) if resumed else opened(recipe.init, progress)
    data = read_recipe_data(recipe, found, progress, model.preprocessing)
    if sorted(data.classes) == sorted(model.classes):
        data = in_order(data, tuple(model.classes))
    if not resumed:
        model, changes = started(model, data.classes, data.preprocessing.size)
        for change in changes:
            progress.note(f"  {change}")
    return Prepared(model, data, isinstance(found, Path))


def read_recipe_data(
    recipe: Recipe, found: Dataset | Path, progress: Progress, preprocessing: Preprocessing | None = None
) -> Dataset:
    """The data of a recipe, which `named` has found; a folder's images are prepared for the recipe's model.

    Raises `ConfigError` for an `img_size` of a built-in set.
    """
    if isinstance(found, Dataset) and recipe.img_size:
        raise ConfigError(
            "--img-size applies to folders of images; give a built-in set its size by name: "
            f"{recipe.data.partition(':')[0]}:size={recipe.img_size}."
        )
    if preprocessing is None:
        side = MODELS[recipe.model].settings["img_size"] if recipe.model in MODELS else PHOTO
        preprocessing = Preprocessing(size=(side, side))
    if recipe.img_size:
        preprocessing = replace(preprocessing, size=(recipe.img_size, recipe.img_size))
    return read_data(found, preprocessing, progress, recipe.seed, recipe.on_bad_image)


def read_data(
    found: Dataset | Path,
    preprocessing: Preprocessing,
    progress: Progress,
    seed: int = 0,
    on_bad_image: Literal["fail", "skip"] = "fail",
) -> Dataset:
    """A built-in data set as it is, or the images of a folder, prepared by `preprocessing`."""
    return folder(found, preprocessing, seed, on_bad_image, progress.note) if isinstance(found, Path) else found


def new_model(name: str, num_classes: int, img_size: tuple[int, int]) -> nn.Module:
    """A new model by its name in the zoo, or from `file.py:Name`. Raises `ConfigError` or `UnknownName`."""
    if is_code(name):
        return from_code(name, num_classes, img_size)
    if name not in MODELS and Path(name).exists():
        raise ConfigError(
            f"{name} is a path; --model takes a name from `vitral models`, or file.py:Name. To fine-tune it: --init."
        )
    if name not in MODELS:
        raise UnknownName(
            f"There is no model {name!r}.{nearest(name, MODELS)} `vitral models` lists them; your own is file.py:Name."
        )
    return create(name, num_classes=num_classes, img_size=img_size)
