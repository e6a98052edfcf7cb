"""Write a model in another library's format: names, layouts, and the config that it builds the model from."""

import io
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.torch import save
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.base.files import write_file, write_folder
from vitral.base.lookup import find
from vitral.nn.family.position import SinCosPosition
from vitral.nn.family.rope import RotaryAttention
from vitral.nn.zoo import FAMILIES, VITS
from vitral.store.classifier import Classifier
from vitral.weights.compared import compared, heads_of
from vitral.weights.rules import outward
from vitral.weights.source import Source

FORMATS = {
    "timm": {"vit": "timm", "swin": "swin_timm", "rotary": "dinov3_timm"},
    "hf": {"vit": "hugging_face", "swin": "swin_hugging_face", "rotary": "dinov3_hugging_face"},
    "torchvision": {"vit": "torchvision", "swin": "swin_torchvision"},
    "npz": {"vit": "google"},
}


def kind_of(model: Classifier) -> str:
    """A plain ViT, one with rotary positions, or a Swin. Raises `ConfigError` for a model that no format knows."""
    kind = next((name for name, made in FAMILIES.items() if type(model) is made), None)
    if kind is None:
        raise ConfigError(f"{type(model).__name__} is none of Vitral's models, so no format has its names.")
    kind = "vit" if kind in VITS else kind
    rotary = kind == "vit" and any(isinstance(part, RotaryAttention) for part in model.modules())
    return "rotary" if rotary else kind


def named(model: Classifier, format: str) -> tuple[Source, dict[str, Tensor]]:
    """Their source, and their tensors of one of our models.

    Raises `ConfigError` if the format has no names for the model or a part of it.
    """
    kind = kind_of(model)
    if kind not in FORMATS[format]:
        words = "ViT with rotary positions" if kind == "rotary" else type(model).__name__
        raise ConfigError(f"{format} cannot hold a {words}.")
    source: Source = find("weights.sources", FORMATS[format][kind], "source")
    ours = tensors_of(model)
    theirs, used = outward(source.rules(ours), ours, heads_of(model))
    if left := [name for name in ours if name not in used]:
        raise ConfigError(f"{format} has no place for {', '.join(left[:4])}{', ...' if len(left) > 4 else ''}.")
    if lacking := [name for name in source.always(ours) if name not in ours]:
        raise ConfigError(f"{format}'s models always have {lacking[0]}, and this one has none.")
    return source, {name: tensor.contiguous() for name, tensor in source.finish(theirs).items()}


def tensors_of(model: Classifier) -> dict[str, Tensor]:
    """What is saved; positions that stay as they are, as the table that they are."""
    ours = model.state_dict()
    position = getattr(model, "position", None)
    if isinstance(position, SinCosPosition):
        ours["pos_embed"] = position.fixed.to(ours["norm.weight"])
    return ours


def write(model: Classifier, folder: Path, format: str) -> tuple[list[Path], list[str]]:
    """The weights, and the config beside them where the format has one; and what these files do not say, in words.

    The files are read back first: nothing is put into the folder unless the model that they are of answers the same.
    Raises `ConfigError` if the format cannot hold the model: which part, and what can; or if the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise ConfigError(f"{folder} is there already and not empty: name another folder.")
    with write_folder(folder) as trial:
        try:
            told = written(model, trial, format)
        except ConfigError as error:
            raise ConfigError(f"{error} {able_to_hold(model, format)}") from error
    return sorted(folder.iterdir()), told


def able_to_hold(model: Classifier, but: str) -> str:
    """Which formats hold everything in the model: those that it can be read back from."""
    able = []
    for name in FORMATS:
        if name != but:
            with suppress(ConfigError), TemporaryDirectory() as folder:
                written(model, Path(folder), name)
                able.append(name)
    return f"What can hold it: {', '.join(able)}." if able else "No other format can hold it either."


def written(model: Classifier, folder: Path, format: str) -> list[str]:
    """Write the files, and compare what is read from them with the model."""
    source, tensors = named(model, format)
    if format == "npz":
        content = io.BytesIO()
        arrays: dict[str, Any] = {name: tensor.float().numpy() for name, tensor in tensors.items()}
        np.savez(content, **arrays)
        weights, data = folder / "model.npz", content.getvalue()
    else:
        weights, data = folder / "model.safetensors", save(tensors, metadata={"format": "pt"})
    write_file(weights, data)
    for name, text in (source.writes(model) if source.writes is not None else {}).items():
        write_file(folder / name, text)
    return compared(model, weights, source, format)
