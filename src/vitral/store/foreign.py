"""Other people's models, opened to be looked into: `timm:NAME`, or a folder that Hugging Face's transformers wrote.

Neither library is needed for anything else; a message says what to install when it is missing.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from vitral.base.errors import ConfigError, StoreError, UnknownName
from vitral.base.lookup import nearest
from vitral.base.preprocessing import Preprocessing
from vitral.store.classifier import Classifier, numbered
from vitral.store.model import dress

TIMM = "timm:"
CONFIG = "config.json"  # of a Hugging Face folder


def is_foreign(name: str) -> bool:
    """Whether a model's name is `timm:NAME` or a Hugging Face folder."""
    return name.startswith(TIMM) or "model_type" in config_of(Path(name))


def config_of(folder: Path) -> dict[str, Any]:
    """What a folder's `config.json` says; nothing if there is none that can be read. timm's has no `model_type`."""
    try:
        said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


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
    given = timm.data.resolve_model_data_config(model)
    known = {"nearest", "bilinear", "bicubic"}
    preprocessing = Preprocessing(
        size=tuple(given["input_size"][1:]),
        crop=given["crop_pct"] if given["crop_pct"] <= 1 else 1.0,
        interpolation=given["interpolation"] if given["interpolation"] in known else "bicubic",
        mean=tuple(given["mean"]),
        std=tuple(given["std"]),
    )
    return dress(model, numbered(model.num_classes), preprocessing, {"timm": name}).eval()


def from_hugging_face(folder: Path) -> Classifier:
    transformers = imported("transformers")
    try:
        model: nn.Module = transformers.AutoModelForImageClassification.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever the library raises for a folder it cannot read
        raise StoreError(
            f"{folder} is no image classifier that transformers can read: {str(error).splitlines()[0]}"
        ) from error
    config: Any = model.config
    side = config.image_size if isinstance(config.image_size, int) else tuple(config.image_size)
    given: dict[str, Any] = {}
    if (card := folder / "preprocessor_config.json").is_file():
        given = json.loads(card.read_text(encoding="utf-8"))
    preprocessing = Preprocessing(
        size=(side, side) if isinstance(side, int) else side,
        mean=tuple(given.get("image_mean", (0.5, 0.5, 0.5))),
        std=tuple(given.get("image_std", (0.5, 0.5, 0.5))),
    )
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
