"""Write a model in another library's format: names, layouts, and the config that it builds the model from."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.base.files import write_file
from vitral.base.lookup import find
from vitral.nn.zoo import FAMILIES
from vitral.store.classifier import Classifier
from vitral.weights.rules import outward
from vitral.weights.source import Source

FORMATS = {
    "timm": {"vit": "timm", "swin": "swin_timm"},
    "hf": {"vit": "hugging_face", "swin": "swin_hugging_face"},
    "torchvision": {"vit": "torchvision", "swin": "swin_torchvision"},
    "npz": {"vit": "google"},
}


def converted(model: Classifier, format: str) -> tuple[Source, dict[str, Tensor]]:
    """Their source, and their tensors of one of our models.

    Raises `ConfigError` if the format cannot hold the model: which part, and what could.
    """
    kind = next((name for name, made in FAMILIES.items() if type(model) is made), None)
    if kind is None:
        raise ConfigError(f"{type(model).__name__} is none of Vitral's models, so no format has its names.")
    if kind not in FORMATS[format]:
        able = [name for name, held in FORMATS.items() if kind in held]
        raise ConfigError(
            f"{format} cannot hold a {type(model).__name__}. What can: {', '.join(able) or 'nothing yet'}."
        )
    source: Source = find("weights.sources", FORMATS[format][kind], "source")
    ours = model.state_dict()
    theirs, used = outward(source.rules(ours), ours, heads_of(model))
    if left := [name for name in ours if name not in used]:
        raise ConfigError(
            f"{format} has no place for {', '.join(left[:4])}{', ...' if len(left) > 4 else ''}. "
            f"{able_to_hold(model, kind, format)}"
        )
    return source, {name: tensor.contiguous() for name, tensor in source.finish(theirs).items()}


def heads_of(model: Any) -> int:
    """The heads of a plain ViT, whose number Google's layout needs."""
    heads = model.config.get("num_heads", 0)
    return heads if isinstance(heads, int) else 0


def able_to_hold(model: Classifier, kind: str, but: str) -> str:
    """Which formats have names for everything in the model."""
    able = []
    for name, held in FORMATS.items():
        if name != but and kind in held:
            rules = find("weights.sources", held[kind], "source").rules(model.state_dict())
            if set(model.state_dict()) <= outward(rules, model.state_dict(), heads_of(model))[1]:
                able.append(name)
    return f"What can hold it: {', '.join(able)}." if able else "No other format can hold it either."


def write(model: Classifier, folder: Path, format: str) -> list[Path]:
    """The weights, and the config beside them where the format has one; each file whole or not at all."""
    source, tensors = converted(model, format)
    if format == "npz":
        content = io.BytesIO()
        arrays: dict[str, Any] = {name: tensor.float().numpy() for name, tensor in tensors.items()}
        np.savez(content, **arrays)
        files: dict[str, bytes | str] = {"model.npz": content.getvalue()}
    else:
        files = {"model.safetensors": save(tensors, metadata={"format": "pt"})}
    files |= source.writes(model) if source.writes is not None else {}
    for name, content_of in files.items():
        write_file(folder / name, content_of)
    return [folder / name for name in files]
