"""Read a written checkpoint back and compare: it must be the same model, or nothing is written."""

from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from vitral.base.errors import ConfigError, StoreError
from vitral.base.preprocessing import Preprocessing
from vitral.nn.family.position import PatchPosition, SinCosPosition
from vitral.nn.parts import describe_part, find_part
from vitral.nn.position import LearnedPosition
from vitral.nn.vit import VisionTransformer
from vitral.weights.published import load_published
from vitral.weights.source import Source

# Parts that may differ in one constant or function, which a format cannot state: what their user must know.
UNSTATED = {"mlp": "its user must specify the activation", "norm": "its user must specify the epsilon"}
PIXELS = (
    "{format} files do not state the preprocessing; their user must specify it: mean {mean}, std {std}, "
    "{interpolation}, crop {crop} ({crop_mode})"
)


def check_round_trip(model: Any, weights: Path, source: Source, format: str) -> list[str]:
    """Notes on what the files do not state. Raises `ConfigError` if a part or an output is not read back the same."""
    stated: dict[str, Any] = {"trained_at": model.config["img_size"], "source": source.name}
    stated |= {"num_heads": num_heads_of(model)} if num_heads_of(model) else {}
    try:
        back: Any = load_published(weights, **stated)
    except StoreError as error:
        raise ConfigError(f"{format} cannot hold this model. {error}") from error
    own, found = parts_of(model), parts_of(back)
    for slot, part in own.items():
        if slot not in UNSTATED and not computes_the_same(part, found[slot]):
            raise ConfigError(
                f"{format} cannot hold {slot}={part.__name__}: it is read back as {found[slot].__name__}."
            )
    recorded, read = (one.config.get("parts", {}) for one in (model, back))
    unstated: dict[str, Any] = {
        slot: find_part(recorded[slot]) if isinstance(recorded.get(slot), dict) else own[slot]
        for slot in UNSTATED
        if slot in own and recorded.get(slot) != read.get(slot)
    }
    if unstated:
        back = load_published(weights, **stated, **unstated)
    if (difference := relative_difference(model, back)) > 1e-5:
        raise ConfigError(
            f"{format} cannot hold this model: read back, its outputs differ by {difference:.0e} of the largest."
        )
    notes = []
    if not prepares_alike(model.preprocessing, back.preprocessing):
        notes.append(PIXELS.format(format=format, **asdict(model.preprocessing)))
    notes += [
        f"{format} files do not state {slot}={describe_part(part)}: {UNSTATED[slot]}" for slot, part in unstated.items()
    ]
    if back.record.task != model.record.task:
        notes.append(f"{format} files do not state the task; their user must specify it: {model.record.task}")
    if set(model.record.thresholds or ()) - {0.5}:
        limits = ", ".join(f"{name} {limit:g}" for name, limit in zip(model.classes, model.record.thresholds))
        notes.append(f"{format} files do not state thresholds of classes; their user must specify them: {limits}")
    if own.get("position") is SinCosPosition:
        notes.append("fixed positions were written as a table of learned ones")
    return [*notes, *source.known_discrepancies(model.config), *source.export_notes(model.config)]


def prepares_alike(own: Preprocessing, other: Preprocessing) -> bool:
    """Whether images are prepared the same; a crop may differ by the rounding of one pixel."""
    return replace(own, crop=1.0) == replace(other, crop=1.0) and abs(own.crop - other.crop) < 0.005


def num_heads_of(model: Any) -> int:
    """The heads of a plain ViT, which some formats cannot state; 0 where each stage has its own."""
    heads = model.config.get("num_heads", 0)
    return heads if isinstance(heads, int) else 0


def parts_of(model: Any) -> dict[str, type]:
    """The class in each slot of a ViT."""
    if not isinstance(model, VisionTransformer):
        return {}
    first: Any = model.blocks[0]
    parts = dict(patch_embed=model.patch_embed, position=model.position, mixer=first.attn, mlp=first.mlp)
    parts |= dict(norm=first.norm1, block=first, pool=model.pool, head=model.head)
    found = {slot: type(part) for slot, part in parts.items()}
    if found["position"] is PatchPosition and not model.num_prefix_tokens:
        found["position"] = LearnedPosition  # without prefix tokens the two are the same
    return found


def computes_the_same(part: type, other: type) -> bool:
    """Whether two classes share their `forward`, however they are initialised; fixed positions are a learned table."""
    if (part, other) == (SinCosPosition, LearnedPosition):
        return True
    forward, of_other = (getattr(one, "forward", one.__call__) for one in (part, other))
    return forward is of_other


@torch.no_grad()
def relative_difference(model: Any, other: Any) -> float:
    """The largest difference between two models' outputs for one image of noise, over the largest output."""
    size = model.config["img_size"]
    image = torch.randn(1, model.config["in_channels"], *size, generator=torch.Generator().manual_seed(0))
    single = model if next(model.parameters()).dtype == torch.float32 else deepcopy(model).float()
    was_training = single.training
    outputs = single.eval()(image)
    single.train(was_training)
    return float((outputs - other.float().eval()(image)).abs().max() / outputs.abs().max().clamp(min=1e-12))
