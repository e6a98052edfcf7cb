"""Vitral's own model file: `model.safetensors` with the weights and `model.json` with everything else.

The JSON says what the architecture is, the classes, the preprocessing, where the model comes from, and the hash of the
weights, so that a damaged or exchanged file is found out.
"""

from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from vitral.base.errors import ConfigError, StoreError, UnknownName, UsageError
from vitral.base.files import sha256, write_file
from vitral.base.preprocessing import Preprocessing
from vitral.nn.zoo import build
from vitral.store.card import CARD, Architecture, Card, Code, Weights, read_card
from vitral.store.classifier import Classifier
from vitral.store.code import from_code

WEIGHTS = "model.safetensors"
CONTIGUOUS = torch.contiguous_format  # a clone: two names of one tensor are saved as two


def save_model(model: Classifier, folder: Path, provenance: dict[str, Any]) -> None:
    """Write both files, each whole or not at all."""
    built_from = architecture(model)
    weights = {name: tensor.clone(memory_format=CONTIGUOUS) for name, tensor in model.state_dict().items()}
    write_file(folder / WEIGHTS, save(weights))
    card = Card(
        architecture=built_from,
        classes=list(model.classes),
        preprocessing=model.preprocessing,
        weights=Weights(sha256=sha256(folder / WEIGHTS)),
        provenance=provenance,
    )
    write_file(folder / CARD, card.model_dump_json(indent=2, exclude_none=True) + "\n")


def architecture(model: nn.Module) -> Architecture:
    """What `load` needs to build the model again, untrained. Raises `ConfigError` if nothing says it."""
    if code := getattr(model, "code", None):
        return Architecture(code=Code(**code))
    if config := getattr(model, "config", None):
        return Architecture(vit=config)
    raise ConfigError(
        f"{type(model).__name__} cannot be saved: it was not made by Vitral and has no `config`. "
        "Train it by its file: --model file.py:Name."
    )


def load(path: str | Path, code: str | None = None) -> Classifier:
    """The model in a run folder, in eval mode, with `classes`, `preprocessing` and `provenance`.

    A model of the reader's own is built from `code` ("file.py:Name"), or from the file it was trained from if that has
    not changed since. Raises `UnknownName` if there is no such folder, `StoreError` if a file is missing, damaged, or
    not of this model.
    """
    folder = Path(path).parent if Path(path).name in (WEIGHTS, CARD) else Path(path)
    if not folder.is_dir():
        raise UnknownName(
            f"There is no run {str(path)!r}. It takes the folder that `vitral train` made, such as runs/shapes-1."
        )
    card, weights = read_card(folder), folder / WEIGHTS
    if not weights.is_file():
        raise StoreError(f"{weights} is missing: {folder / CARD} belongs to it.")
    if sha256(weights) != card.weights.sha256:
        raise StoreError(
            f"{weights} is not the file that {folder / CARD} was written for: it is damaged or was exchanged."
        )
    try:
        model = rebuild(card.architecture, len(card.classes), card.preprocessing.size, code)
        model.load_state_dict(load_file(weights))
    except SafetensorError as error:
        raise StoreError(f"{weights} is damaged: {error}.") from error
    except (RuntimeError, UsageError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise StoreError(f"The weights in {weights} do not fit the model in {folder / CARD}: {reason}") from error
    dress(model, card.classes, card.preprocessing, card.provenance).eval()
    return cast(Classifier, model)


def rebuild(built_from: Architecture, num_classes: int, img_size: tuple[int, int], code: str | None) -> nn.Module:
    """The untrained model. Raises `UsageError` if the reader's own code is not as it was and none is given."""
    if built_from.vit is not None:
        if code is not None:
            raise ConfigError(f"it is one of Vitral's own models, so --code {code} has no part in it: leave it out.")
        model = build(built_from.vit)
        if (answers := model.config["num_classes"]) != num_classes:
            raise ConfigError(f"it gives {answers} answers, but {num_classes} classes are named.")
        return model
    origin = built_from.code
    if origin is None:
        raise ConfigError("the card does not say what to build.")
    path = Path(origin.file)
    if code is None and not (path.is_file() and sha256(path) == origin.sha256):
        raise ConfigError(
            f"it was trained from {path}:{origin.name}, which is gone or has changed since. Say --code file.py:Name."
        )
    return from_code(code or f"{path}:{origin.name}", num_classes, img_size)


def dress(model: nn.Module, classes: list[str], preprocessing: Preprocessing, provenance: dict[str, Any]) -> Classifier:
    """Give a model what travels with it."""
    dressed = cast(Classifier, model)
    dressed.classes, dressed.preprocessing, dressed.provenance = tuple(classes), preprocessing, provenance
    return dressed
