"""What a verb's MODEL and DATA mean."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from vitral.base.errors import ConfigError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.cli import say
from vitral.data.dataset import Dataset
from vitral.data.fits import in_order
from vitral.data.folder import folder
from vitral.data.named import named
from vitral.nn.zoo import MODELS
from vitral.store.classifier import Classifier
from vitral.training.recipe import Recipe
from vitral.weights.create import create
from vitral.weights.load import load
from vitral.weights.transfer import transfer_weights

PHOTO = 64  # pixels: the side a folder's images are cut to for a model that does not say


def data_set(
    spec: str, preprocessing: Preprocessing, seed: int = 0, on_bad_image: Literal["fail", "skip"] = "fail"
) -> Dataset:
    """Data by name or path; a folder's images are cut as `preprocessing` says."""
    found = named(spec)
    return folder(found, preprocessing, seed, on_bad_image, say) if isinstance(found, Path) else found


def opened(name: str, code: str | None = None, **options: Any) -> Classifier:
    """The model that a verb's MODEL names; how its file was read is printed."""
    model = load(name, code, **options)
    for note in model.record.notes:
        say(note)
    return model


def data_of(recipe: Recipe, preprocessing: Preprocessing | None = None) -> Dataset:
    """The data that a recipe names; where that leaves it open, prepared so, or at the size that the model takes."""
    if preprocessing is None:
        side = MODELS[recipe.model].settings["img_size"] if recipe.model in MODELS else PHOTO
        preprocessing = Preprocessing(size=(side, side))
    built_in = not isinstance(named(recipe.data), Path)
    if built_in and recipe.img_size:
        raise ConfigError(
            "--img-size is for folders of images; say it with the data: "
            f"{recipe.data.partition(':')[0]}:size={recipe.img_size}."
        )
    size = (recipe.img_size, recipe.img_size) if recipe.img_size else preprocessing.size
    return data_set(recipe.data, replace(preprocessing, size=size), recipe.seed, recipe.on_bad_image)


def model_and_data(recipe: Recipe) -> tuple[Classifier, Dataset]:
    """Both as a recipe names them, made to fit each other: a new model, or one that starts from a trained one."""
    if recipe.init:
        trained = opened(recipe.init)
        data = as_known(data_of(recipe, trained.preprocessing), trained)
        model, changes = transfer_weights(trained, data.classes, data.preprocessing.size)
        for line in changes:
            say(f"  {line}")
        return model, data
    data = data_of(recipe)
    new = create(recipe.model, num_classes=len(data.classes), img_size=data.preprocessing.size)
    return attach_record(new, ModelRecord(data.classes, data.preprocessing)), data


def resumed(recipe: Recipe, folder: Path) -> tuple[Classifier, Dataset]:
    """Both of a run that goes on; a model that started from a trained one is in the run's folder by then."""
    if not recipe.init:
        return model_and_data(recipe)
    model = load(folder)
    return model, as_known(data_of(recipe, model.preprocessing), model)


def as_known(data: Dataset, model: Classifier) -> Dataset:
    """The data with its classes in the model's order, if they are the same."""
    return in_order(data, tuple(model.classes)) if sorted(data.classes) == sorted(model.classes) else data
