"""Other people's models, opened to be looked into: `timm:NAME`, or a folder that Hugging Face's transformers wrote.

Neither library is needed for anything else; a message says what to install when it is missing.
"""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from vitral.base.errors import ConfigError, StoreError, UnknownName
from vitral.base.lookup import nearest
from vitral.base.preprocessing import CropMode, Interpolation, Preprocessing
from vitral.store.classifier import Classifier, numbered
from vitral.store.image_processor import as_transformers_says
from vitral.store.model import dress

TIMM = "timm:"
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"  # of a Hugging Face folder


def is_hugging_face(folder: Path) -> bool:
    """Whether transformers wrote a folder."""
    return "model_type" in config_of(folder)


def config_of(folder: Path) -> dict[str, Any]:
    """What a folder's `config.json` says; nothing if there is none that can be read. timm's has no `model_type`."""
    try:
        return read(folder / CONFIG)
    except StoreError:
        return {}


def read(file: Path) -> dict[str, Any]:
    """Raises `StoreError` for a file that cannot be read, or holds something else."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{file} cannot be read: {error}.") from error
    if not isinstance(said, dict):
        raise StoreError(f"{file} holds a {type(said).__name__}, not settings by their names.")
    return said


def architecture(folder: Path) -> str:
    """The class that a Hugging Face folder says it was saved from."""
    return ", ".join(config_of(folder).get("architectures") or ["model of another kind"])


def foreign(name: str) -> Classifier:
    """The model in eval mode, with its preprocessing and what it calls its classes.

    `timm:NAME` takes timm's published weights, `timm:NAME,pretrained=false` none. Raises `ConfigError` if the library
    is missing, `UnknownName` for a name that timm does not have, `StoreError` if weights cannot be had or read.
    """
    return from_timm(name.removeprefix(TIMM)) if name.startswith(TIMM) else from_hugging_face(Path(name))


def from_timm(spec: str) -> Classifier:
    timm = imported("timm")
    name, _, setting = spec.partition(",")
    if setting not in ("", "pretrained=true", "pretrained=false"):
        raise ConfigError(f"timm:{spec} is not understood: after the name it takes ,pretrained=false.")
    if not timm.is_model(name):
        raise UnknownName(f"timm has no model {name!r}.{nearest(name, timm.list_models())}")
    try:
        model = timm.create_model(name, pretrained=setting != "pretrained=false")
    except Exception as error:  # whatever the download raises
        raise StoreError(
            f"timm could not get the weights of {name}: {str(error).splitlines()[0]} "
            f"To look at it without any: timm:{name},pretrained=false."
        ) from error
    preprocessing = as_timm_says(name, timm.data.resolve_model_data_config(model))
    return dress(model, numbered(model.num_classes), preprocessing, {"timm": name}).eval()


def as_timm_says(name: str, given: Mapping[str, Any]) -> Preprocessing:
    """How timm prepares a model's images. Raises `StoreError` for what `Preprocessing` cannot say."""
    kept, mode, interpolation = given["crop_pct"], given["crop_mode"], given["interpolation"]
    for word, found, can, known in (
        ("crop_pct", kept, 0 < kept <= 1, "at most 1"),
        ("crop_mode", mode, mode in get_args(CropMode), "center or squash"),
        ("interpolation", interpolation, interpolation in get_args(Interpolation), "nearest, bilinear or bicubic"),
    ):
        if not can:
            raise StoreError(f"timm prepares the images of {name} with {word}={found}; Vitral can do {known}.")
    mean, std = tuple(given["mean"]), tuple(given["std"])
    return Preprocessing(tuple(given["input_size"][1:]), kept, interpolation, mean, std, mode)


def from_hugging_face(folder: Path) -> Classifier:
    """Raises `StoreError` for a folder that cannot be read, that lacks weights, or whose images cannot be prepared."""
    transformers = imported("transformers")
    try:
        model, loaded = transformers.AutoModelForImageClassification.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # whatever the library raises for a folder it cannot read
        raise StoreError(
            f"{folder} is no image classifier that transformers can read: {str(error).splitlines()[0]}"
        ) from error
    if missing := sorted(loaded["missing_keys"]):
        raise StoreError(
            f"{folder} has no weights for {', '.join(missing[:6])}{' ...' if len(missing) > 6 else ''}, so "
            "transformers drew them at random, and the answers would be chance. What it holds was saved from a "
            f"{architecture(folder)}: save a model with its classifier, a ...ForImageClassification."
        )
    config: Any = model.config
    said = getattr(config, "image_size", None)
    side = (said, said) if isinstance(said, int) else None if said is None else (said[0], said[1])
    card = folder / PROCESSOR
    if card.is_file():
        preprocessing = as_transformers_says(read(card), side, getattr(config, "num_channels", 3))
    elif side is not None:
        preprocessing = Preprocessing(size=side)
    else:
        raise StoreError(f"{folder} does not say the size of the model's images: {PROCESSOR} is missing.")
    names = [config.id2label[index] for index in range(config.num_labels)]
    return dress(model, names, preprocessing, {"folder": str(folder)}).eval()


def imported(library: str) -> Any:
    """Raises `ConfigError` with what to do if the library is not there."""
    try:
        return import_module(library)
    except (ImportError, RuntimeError) as error:  # a torchvision without its operators raises the latter
        raise ConfigError(
            f"This model needs {library}, which cannot be imported here: {error}. "
            f"Install it: pip install -c constraints.txt {library}."
        ) from error
