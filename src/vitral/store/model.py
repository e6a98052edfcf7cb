"""Vitral's own model file: `model.safetensors` with the weights and `model.json` with everything else.

The JSON says what the architecture is, the classes, the preprocessing, where the model comes from, and the hash of the
weights, so that a damaged or exchanged file is found out.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from vitral.base.errors import ConfigError, StoreError, UnknownName, UsageError
from vitral.base.files import sha256, write_file
from vitral.base.preprocessing import Preprocessing
from vitral.nn.zoo import build
from vitral.store.classifier import Classifier
from vitral.store.code import from_code

FORMAT, VERSION = "vitral-model", 1
WEIGHTS, CARD = "model.safetensors", "model.json"


def save_model(model: Classifier, folder: Path, provenance: dict[str, Any]) -> None:
    """Write both files, each whole or not at all.

    The model brings `config` (or, for code of the reader's own, `code`), `classes` and `preprocessing`.
    """
    weights = save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})
    write_file(folder / WEIGHTS, weights)
    card = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": architecture(model),
        "classes": list(model.classes),
        "preprocessing": asdict(model.preprocessing),
        "weights": {"file": WEIGHTS, "sha256": sha256(folder / WEIGHTS)},
        "provenance": provenance,
    }
    write_file(folder / CARD, json.dumps(card, indent=2) + "\n")


def architecture(model: nn.Module) -> dict[str, Any]:
    """What `load` needs to build the model again, untrained."""
    if code := getattr(model, "code", None):
        return {"code": code}
    if config := getattr(model, "config", None):
        return {"vit": config}
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
    card = read_card(folder)
    weights = folder / card["weights"]["file"]
    if not weights.is_file():
        raise StoreError(f"{weights} is missing: {folder / CARD} belongs to it.")
    if sha256(weights) != card["weights"]["sha256"]:
        raise StoreError(
            f"{weights} is not the file that {folder / CARD} was written for: it is damaged or was exchanged."
        )
    try:
        model = rebuild(card["architecture"], len(card["classes"]), card["preprocessing"], code)
        model.load_state_dict(load_file(weights))
    except SafetensorError as error:
        raise StoreError(f"{weights} is damaged: {error}.") from error
    except (RuntimeError, UsageError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise StoreError(f"The weights in {weights} do not fit the model in {folder / CARD}: {reason}") from error
    return dress(model, card["classes"], Preprocessing(**tuples(card["preprocessing"])), card["provenance"]).eval()


def read_card(folder: Path) -> dict[str, Any]:
    """`model.json`, checked to be one."""
    path = folder / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} holds no model: there is no {CARD} in it. A run that is trained to its end has one."
        ) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read as JSON: {error}.") from error
    keys = {"architecture", "classes", "preprocessing", "weights", "provenance"}
    if not isinstance(card, dict) or card.get("format") != FORMAT or not keys <= card.keys():
        raise StoreError(f"{path} is not the card of a Vitral model.")
    if card.get("version") != VERSION:
        raise StoreError(
            f"{path} is of version {card.get('version')}; this Vitral reads version {VERSION}. Update Vitral."
        )
    return card


def rebuild(
    architecture: dict[str, Any], num_classes: int, preprocessing: dict[str, Any], code: str | None
) -> nn.Module:
    if "vit" in architecture:
        return build(architecture["vit"])
    origin = architecture["code"]
    path = Path(origin["file"])
    if code is None and not (path.is_file() and sha256(path) == origin["sha256"]):
        raise ConfigError(
            f"it was trained from {origin['file']}:{origin['name']}, which is gone or has changed since. "
            "Say --code file.py:Name."
        )
    return from_code(code or f"{path}:{origin['name']}", num_classes, tuple(preprocessing["size"]))


def dress(model: nn.Module, classes: list[str], preprocessing: Preprocessing, provenance: dict[str, Any]) -> Classifier:
    """Give a model what travels with it."""
    dressed = cast(Classifier, model)
    dressed.classes, dressed.preprocessing, dressed.provenance = tuple(classes), preprocessing, provenance
    return dressed


def tuples(record: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
