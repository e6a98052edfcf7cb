"""What a verb's MODEL and DATA mean."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import nn

from vitral.base.errors import ConfigError, UnknownName, UsageError, VitralError
from vitral.base.lookup import nearest
from vitral.base.preprocessing import Preprocessing
from vitral.cli import say
from vitral.data.classes import reorder_classes
from vitral.data.dataset import Dataset
from vitral.data.folder import folder
from vitral.data.spec import find_data
from vitral.nn.zoo import MODELS, create
from vitral.recording.forward import logits_of
from vitral.store.classifier import Classifier, numbered
from vitral.store.code import from_code, is_code
from vitral.store.foreign import TIMM, foreign, is_hugging_face
from vitral.store.model import dress
from vitral.training.checkpoint import PREFIX
from vitral.training.checkpoint import WEIGHTS as CHECKPOINT_WEIGHTS
from vitral.training.recipe import Recipe
from vitral.weights.load import is_published, load, told
from vitral.weights.start import started

PHOTO = 64  # pixels: the side a folder's images are cut to for a model that does not say


def data_set(
    spec: str, preprocessing: Preprocessing, seed: int = 0, on_bad_image: Literal["fail", "skip"] = "fail"
) -> Dataset:
    """Data by name or path; a folder's images are cut as `preprocessing` says."""
    found = find_data(spec)
    return folder(found, preprocessing, seed, on_bad_image, say) if isinstance(found, Path) else found


def opened(name: str, code: str | None = None, **said: Any) -> Classifier:
    """A run, or a published checkpoint; and of that what was assumed and what was left out, said to the user."""
    model = load(name, code, **said)
    if is_published(told(name)[0]):
        for line in read_as(model.provenance):
            say(line)
    return model


def read_as(provenance: dict[str, Any]) -> list[str]:
    """How a published checkpoint was read."""
    reasons: dict[str, list[str]] = {}
    for name, reason in provenance["dropped"].items():
        reasons.setdefault(reason, []).append(name)
    return [
        f"read as of {provenance['source']}",
        *(f"  assumed: {line}" for line in provenance["assumed"]),
        *(
            f"  left out: {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}, {reason}"
            for reason, names in reasons.items()
        ),
    ]


def to_look_into(name: str, code: str | None) -> Classifier:
    """A trained model to explain: a run, a checkpoint of one, `timm:NAME`, a published checkpoint, or `file.py:Name`.

    A checkpoint's weights are those of its step; the rest is its run's. A model of `file.py:Name` is as its class makes
    it, trained if that loads weights. A Hugging Face folder that is none of Vitral's sources' is read by transformers.
    """
    if name.startswith(TIMM):
        return foreign(name)
    if is_code(name):
        model = from_code(name, 1000, (224, 224))
        say(getattr(model, "origin", f"{name} is as it makes itself: trained only if it loads weights of its own."))
        side = getattr(model, "img_size", 224)
        size = tuple(side) if isinstance(side, tuple | list) else (side, side)
        preprocessing = getattr(model, "preprocessing", Preprocessing(size=size))
        return dress(model, class_names(model, outputs(model.eval(), preprocessing)), preprocessing, {}).eval()
    folder = Path(name)
    if folder.name.startswith(PREFIX) and (folder / CHECKPOINT_WEIGHTS).is_file():
        model = opened(str(folder.parent.parent), code)
        model.load_state_dict(load_file(folder / CHECKPOINT_WEIGHTS))
        return model
    if not is_hugging_face(folder):
        return opened(name, code)
    try:
        return opened(name)
    except VitralError as error:
        say(f"Vitral cannot read this itself, so transformers is asked to: {error}")
        return foreign(name)


@torch.no_grad()
def outputs(model: nn.Module, seen: Preprocessing) -> int:
    """How many classes a model of `file.py:Name` scores, as it answers an empty image; none if it scores no classes.

    Raises `ShapeError` if it does not take images that are prepared so.
    """
    channels = len(seen.mean)
    try:
        return logits_of(model, torch.zeros(1, channels, *seen.size, device=next(model.parameters()).device)).shape[1]
    except UsageError:
        return 0


def class_names(model: nn.Module, count: int) -> list[str]:
    """A model's own `class_names`, or numbers. Raises `ConfigError` if they are not one for each class."""
    own = getattr(model, "class_names", None)
    if own is None:
        return numbered(count)
    if not isinstance(own, list | tuple) or len(own) != count or not all(isinstance(name, str) for name in own):
        raise ConfigError(f"The model's `class_names` should be {count} texts, one for each class; found {own!r}.")
    return list(own)


def untrained(name: str, num_classes: int, img_size: tuple[int, int]) -> nn.Module:
    """A new model for so many classes: a name of the zoo, or `file.py:Name`."""
    if is_code(name):
        return from_code(name, num_classes, img_size)
    if name not in MODELS and Path(name).exists():
        raise ConfigError(f"{name} is a path. To train, --model takes a name from `vitral models`, or file.py:Name.")
    if name not in MODELS:
        raise UnknownName(
            f"There is no model {name!r}.{nearest(name, MODELS)} `vitral models` lists them; your own is file.py:Name."
        )
    return create(name, num_classes=num_classes, img_size=img_size)


def data_of(recipe: Recipe, preprocessing: Preprocessing | None = None) -> Dataset:
    """The data that a recipe names; where that leaves it open, prepared so, or at the size that the model takes."""
    if preprocessing is None:
        side = MODELS[recipe.model].settings["img_size"] if recipe.model in MODELS else PHOTO
        preprocessing = Preprocessing(size=(side, side))
    built_in = not isinstance(find_data(recipe.data), Path)
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
        model, done = started(trained, data.classes, data.preprocessing.size)
        for line in done:
            say(f"  {line}")
        return model, data
    data = data_of(recipe)
    new = untrained(recipe.model, len(data.classes), data.preprocessing.size)
    return dress(new, list(data.classes), data.preprocessing, {}), data


def resumed(recipe: Recipe, folder: Path) -> tuple[Classifier, Dataset]:
    """Both of a run that goes on; a model that started from a trained one is in the run's folder by then."""
    if not recipe.init:
        return model_and_data(recipe)
    model = load(folder)
    return model, as_known(data_of(recipe, model.preprocessing), model)


def as_known(data: Dataset, model: Classifier) -> Dataset:
    """The data with its classes in the model's order, if they are the same."""
    return reorder_classes(data, tuple(model.classes)) if sorted(data.classes) == sorted(model.classes) else data
