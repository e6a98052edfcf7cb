"""Vitral's own model file: `model.safetensors` with the weights and `model.json` with everything else.

The JSON states the architecture, the record, and the hash of the weights, so that a damaged or exchanged file is
noticed.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from vitral.base.answers.several_classes import THRESHOLD
from vitral.base.calibration import Calibration
from vitral.base.errors import ConfigError, StoreError, UnknownName, UsageError
from vitral.base.files import sha256, write_file
from vitral.base.record import VERSION, attach_record
from vitral.nn.families import build
from vitral.nn.family.segmenter import Segmenter
from vitral.store import CHECKPOINT_WEIGHTS
from vitral.store.card import CARD, Architecture, Card, Code, Weights, read_card
from vitral.store.classifier import Classifier
from vitral.store.code import from_code
from vitral.store.numbers_head import MEAN, add_numbers_head
from vitral.store.training_images import attach_statistics, save_statistics, without_statistics

WEIGHTS = "model.safetensors"


def save_model(model: Classifier, folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write both files, each whole or not at all; `provenance` takes the place of the record's.

    The statistics of the training images, where the record has them, are written beside them.
    """
    architecture = architecture_of(model)
    # A clone per name: safetensors refuses two names of one tensor, and loading gives each its own values anyway.
    weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in model.state_dict().items()}
    write_file(folder / WEIGHTS, save(weights))
    statistics, elsewhere = model.record.feature_statistics, ("notes", "feature_statistics", "why_unknown")
    record = replace(model.record, feature_statistics=None)  # it has a file of its own
    content = {name: value for name, value in asdict(record).items() if name not in elsewhere}
    content |= {"provenance": dict(provenance), "architecture": architecture}
    content["version"] = VERSION if record.calibration else 2  # an older Vitral reads what it can read
    card = Card(**content, weights=Weights(sha256=sha256(folder / WEIGHTS)))
    write_file(folder / CARD, card.model_dump_json(indent=2, exclude_none=True) + "\n")
    if statistics is not None:
        save_statistics(statistics, model.preprocessing, folder / WEIGHTS)


def save_calibration(folder: Path, calibration: Calibration, thresholds: tuple[float, ...] | None = None) -> None:
    """Add what validation images say of the probabilities to the card of a model, whose weights stay as they are."""
    card = read_card(folder)
    found = card.model_copy(update={"calibration": calibration, "version": VERSION})
    if thresholds is not None:
        found = found.model_copy(update={"thresholds": thresholds})
    write_file(folder / CARD, found.model_dump_json(indent=2, exclude_none=True) + "\n")


def without_calibration(model: Classifier) -> Classifier:
    """The model with its own probabilities, as weights need that are still to change."""
    thresholds = None if model.record.thresholds is None else (THRESHOLD,) * len(model.classes)
    return attach_record(model, replace(model.record, calibration=None, thresholds=thresholds))


def architecture_of(model: nn.Module) -> Architecture:
    """What is needed to build the model again, untrained. Raises `ConfigError` if the model does not state it."""
    if code := getattr(model, "code", None):
        return Architecture(code=Code(**code))
    if config := getattr(model, "config", None):
        return Architecture(vit=config)
    raise ConfigError(
        f"{type(model).__name__} cannot be saved: Vitral did not build it, and it has no `config`. Train it from its "
        "file: --model file.py:Name."
    )


def load_model(path: str | Path, code: str | None = None) -> Classifier:
    """The model in a run folder, in eval mode, with its record.

    The reader's own module is built from `code` ("file.py:Name"), or from the file it was trained from if that has not
    changed since. Raises `UnknownName` if there is no such folder, `StoreError` if a file is missing, damaged, or
    belongs to another model.
    """
    folder = Path(path).parent if Path(path).name in (WEIGHTS, CARD) else Path(path)
    if not folder.is_dir():
        raise UnknownName(
            f"There is no run {str(path)!r}. Specify a folder that `vitral train` wrote, such as runs/shapes-1."
        )
    card, weights = read_card(folder), folder / WEIGHTS
    if not weights.is_file():
        raise StoreError(f"{weights} is missing, but {folder / CARD} describes it.")
    if sha256(weights) != card.weights.sha256:
        raise StoreError(f"{weights} is not the file that {folder / CARD} describes: it is damaged or was replaced.")
    try:
        model = rebuild(card.architecture, len(card.classes), card.preprocessing.size, code)
        if card.architecture.vit is not None and isinstance(model, Segmenter) != (card.task == "segmentation"):
            gives = "a class for each pixel" if isinstance(model, Segmenter) else "one answer for each image"
            raise ConfigError(f"its task is {card.task}, but the model gives {gives}.")
        tensors = load_file(weights)
        for name in tensors:
            if name.rpartition(".")[2] == MEAN:  # numbers, scaled to the unit of the data
                add_numbers_head(model, len(card.classes), name.rpartition(".")[0])
        model.load_state_dict(tensors)
    except SafetensorError as error:
        raise StoreError(f"{weights} is damaged: {error}.") from error
    except UsageError as error:
        raise StoreError(f"The model in {folder / CARD} cannot be built: {error}") from error
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise StoreError(f"The weights in {weights} do not fit the model in {folder / CARD}: {reason}") from error
    classifier = attach_record(model, replace(card.record(), grid=None, num_prefix_tokens=None))
    for name in ("grid", "num_prefix_tokens"):
        stated, own = getattr(card, name), getattr(classifier.record, name)
        if stated is not None and stated != own:
            raise StoreError(f"{folder / CARD} has {name}={stated}, but the model that it describes has {name}={own}.")
    return attach_statistics(classifier, folder, card.weights.sha256).eval()


def load_checkpoint_weights(model: Classifier, folder: Path) -> Classifier:
    """The run's model with the weights of one of its training checkpoints.

    Raises `StoreError` if they are damaged or belong to another model.
    """
    file = folder / CHECKPOINT_WEIGHTS
    try:
        model.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise StoreError(f"{file} is damaged or belongs to another model: {reason}") from error
    # The statistics and the temperature in the run, if any, are those of its best weights.
    model = without_calibration(model)
    return without_statistics(model, "a training checkpoint has no statistics of them; the finished run has")


def check_parts_fit(config: dict[str, Any], shape: tuple[int, int, int]) -> None:
    """Raise `ConfigError` if a part of the model cannot stand in its slot, as its first pass would find.

    A second model runs once on the meta device, without values.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            build(config).eval()(torch.zeros(1, *shape))
    except TypeError as error:  # of a call that the part does not take; what the meta device lacks is another error
        raise ConfigError(f"its parts do not fit together: {error}.") from error
    except (RuntimeError, NotImplementedError):
        return


def rebuild(architecture: Architecture, num_classes: int, img_size: tuple[int, int], code: str | None) -> nn.Module:
    """The untrained model. Raises `UsageError` if the reader's own code has changed and `code` names no other."""
    if architecture.vit is not None:
        if code is not None:
            raise ConfigError(
                f"it is one of Vitral's own architectures, and --code {code} does not apply: leave it out."
            )
        model = build(architecture.vit)
        if (outputs := model.config["num_classes"]) != num_classes:
            raise ConfigError(f"it has {outputs} outputs, but {num_classes} classes are named.")
        if architecture.vit.get("parts"):
            check_parts_fit(architecture.vit, (model.config["in_channels"], *img_size))
        return model
    origin = architecture.code
    if origin is None:
        raise ConfigError("the card does not state an architecture.")
    path = Path(origin.file)
    if code is None and not (path.is_file() and sha256(path) == origin.sha256):
        raise ConfigError(
            f"it was trained from {path}:{origin.name}, which is missing or has changed since. Specify "
            "--code file.py:Name."
        )
    return from_code(code or f"{path}:{origin.name}", num_classes, img_size)
