"""Write a model in another library's format: names, layouts, and the config that the library builds it from."""

import io
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.torch import save
from torch import Tensor

from vitral.base.answers.several_classes import THRESHOLD
from vitral.base.errors import ConfigError
from vitral.base.files import write_file, write_folder
from vitral.base.lookup import find, object_path
from vitral.nn.families import FAMILIES, VITS
from vitral.nn.family.position import SinCosPosition
from vitral.nn.family.rope import RotaryAttention
from vitral.store.classifier import Classifier
from vitral.store.numbers_head import without_numbers_head
from vitral.store.training_images import save_statistics
from vitral.weights.round_trip import check_round_trip, num_heads_of
from vitral.weights.rules import rename_to_theirs
from vitral.weights.source import Source

# format -> kind of model -> the source whose names it has
FORMATS = {
    "timm": {"vit": "timm", "swin": "swin_timm", "rotary": "dinov3_timm"},
    "hf": {"vit": "hugging_face", "swin": "swin_hugging_face", "rotary": "dinov3_hugging_face"},
    "torchvision": {"vit": "torchvision", "swin": "swin_torchvision"},
    "npz": {"vit": "google"},
}


def write(model: Classifier, folder: Path, format: str) -> tuple[list[Path], list[str]]:
    """Write the weights, and the config beside them where the format has one. Returns the files, and notes on them.

    The notes say what the files do not state. The files are read back first: nothing is put into the folder unless the
    model read from them gives the same outputs. Raises `ConfigError`, naming the part and the formats that can hold the
    model, if this one cannot; or if the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise ConfigError(f"{folder} exists and is not empty: specify another folder.")
    with write_folder(folder) as trial:
        try:
            notes = write_files(model, trial, format)
        except ConfigError as error:
            raise ConfigError(f"{error} {suggest_formats(model, format)}") from error
    return sorted(folder.iterdir()), notes


def suggest_formats(model: Classifier, refused: str) -> str:
    """A sentence with the other formats that can hold the model, tried by writing and reading back."""
    able = []
    for name in FORMATS:
        if name != refused:
            with suppress(ConfigError), TemporaryDirectory() as folder:
                write_files(model, Path(folder), name)
                able.append(name)
    return f"Formats that can: {', '.join(able)}." if able else "No other format can hold it either."


def write_files(model: Classifier, folder: Path, format: str) -> list[str]:
    """Write the files, compare what is read from them with the model, and give notes on what they do not state."""
    model = without_numbers_head(model)  # no format but ours has a place for the scale of numbers
    source, tensors = tensors_in_format(model, format)
    if format == "npz":
        content = io.BytesIO()
        arrays: dict[str, Any] = {name: tensor.float().numpy() for name, tensor in tensors.items()}
        np.savez(content, **arrays)
        weights, data = folder / "model.npz", content.getvalue()
    else:
        weights, data = folder / "model.safetensors", save(tensors, metadata={"format": "pt"})
    write_file(weights, data)
    for name, text in (source.config_files(model) if source.config_files is not None else {}).items():
        write_file(folder / name, text)
    notes = check_round_trip(model, weights, source, format)
    notes += calibration_notes(model)
    if (statistics := model.record.feature_statistics) is not None:
        save_statistics(statistics, model.preprocessing, weights)
    return notes


def calibration_notes(model: Classifier) -> list[str]:
    """What was chosen on validation images and is lost: without it a model gives other probabilities or classes."""
    calibration, thresholds = model.record.calibration, model.record.thresholds
    notes = []
    if calibration is not None and calibration.temperature is not None:
        notes.append(
            f"the format has no place for the temperature: divide the logits by {calibration.temperature:.6g} to get "
            "the probabilities that Vitral gives"
        )
    if thresholds and set(thresholds) != {THRESHOLD}:
        notes.append(
            f"the format has no place for the thresholds of classes: {', '.join(f'{t:.4g}' for t in thresholds)}"
        )
    return notes


def tensors_in_format(model: Classifier, format: str) -> tuple[Source, dict[str, Tensor]]:
    """The source with the format's names, and the model's tensors in them.

    Raises `ConfigError` if the format has no names for the model or a part of it.
    """
    kind = kind_of_model(model)
    if kind not in FORMATS[format]:
        words = "ViT with rotary positions" if kind == "rotary" else type(model).__name__
        raise ConfigError(f"{format} cannot hold a {words}.")
    config: Any = model.config
    if kind != "swin" and "window_size" in config:
        raise ConfigError(
            f"{format} has no place for the windows that this {type(model).__name__} attends in (window_size="
            f"{config['window_size']}), and its weights alone are those of another model."
        )
    source: Source = find("weights.sources", FORMATS[format][kind], "source")
    ours = tensors_to_save(model)
    theirs, used = rename_to_theirs(source.rules(ours), ours, num_heads_of(model))
    # A tensor left behind would be another model without a sign of it, so it is an error here, not a note.
    if left := [name for name in ours if name not in used]:
        raise ConfigError(f"{format} has no place for {', '.join(left[:4])}{', ...' if len(left) > 4 else ''}.")
    if lacking := [name for name in source.required(ours) if name not in ours]:
        raise ConfigError(f"Models in {format} always have {lacking[0]}, and this one does not.")
    return source, {name: tensor.contiguous() for name, tensor in source.finish(theirs).items()}


def kind_of_model(model: Classifier) -> str:
    """ "vit", "rotary" for a ViT with rotary positions, or "swin". Raises `ConfigError` for any other model."""
    kind = next((name for name, path in FAMILIES.items() if object_path(type(model)) == path), None)
    if kind is None:
        raise ConfigError(f"{type(model).__name__} is not one of Vitral's models, so no format has names for it.")
    kind = "vit" if kind in VITS else kind
    is_rotary = kind == "vit" and any(isinstance(part, RotaryAttention) for part in model.modules())
    return "rotary" if is_rotary else kind


def tensors_to_save(model: Classifier) -> dict[str, Tensor]:
    """The model's state, with fixed positions as the table that they are."""
    ours = model.state_dict()
    position = getattr(model, "position", None)
    if isinstance(position, SinCosPosition):
        ours["pos_embed"] = position.fixed.to(ours["norm.weight"])
    return ours
