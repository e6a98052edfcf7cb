"""Is what was written the model? It is read back, and asked."""

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
from vitral.weights.load import published
from vitral.weights.source import Source

# Parts whose difference is one constant or function, which whoever builds the model must be told.
TOLD = {
    "mlp": "give its activation to whoever builds the model",
    "norm": "give its epsilon to whoever builds the model",
}

PIXELS = (
    "{format}'s files do not say how pixels are prepared: mean {mean}, deviation {std}, {interpolation}, crop {crop} "
    "({crop_mode}); tell whoever uses the model"
)


def compared(model: Any, weights: Path, source: Source, format: str) -> list[str]:
    """What the files do not say, in words. Raises `ConfigError` for a part read back as another, or another answer."""
    said: dict[str, Any] = {"trained_at": model.config["img_size"], "source": source.name}
    said |= {"num_heads": heads_of(model)} if heads_of(model) else {}
    try:
        back: Any = published(weights, **said)
    except StoreError as error:
        raise ConfigError(f"{format} cannot hold this model. {error}") from error
    own, found = parts_of(model), parts_of(back)
    for slot, part in own.items():
        if slot not in TOLD and not same(part, found[slot]):
            raise ConfigError(
                f"{format} cannot hold {slot}={part.__name__}: it is read back as {found[slot].__name__}."
            )
    recorded, read = (one.config.get("parts", {}) for one in (model, back))
    unsaid: dict[str, Any] = {
        slot: find_part(recorded[slot]) if isinstance(recorded.get(slot), dict) else own[slot]
        for slot in TOLD
        if slot in own and recorded.get(slot) != read.get(slot)
    }
    if unsaid:
        back = published(weights, **said, **unsaid)
    if (apart := difference(model, back)) > 1e-5:
        raise ConfigError(f"{format} cannot hold this model: what is read back answers otherwise, by {apart:.0e}.")
    told = (
        []
        if near(model.preprocessing, back.preprocessing)
        else [PIXELS.format(format=format, **asdict(model.preprocessing))]
    )
    told += [f"{format}'s files do not say {slot}={describe_part(part)}: {TOLD[slot]}" for slot, part in unsaid.items()]
    if own.get("position") is SinCosPosition:
        told.append("positions that stay as they are were written as a table of learned ones")
    return [*told, *source.unlike(model.config), *source.told(model.config)]


def near(own: Preprocessing, other: Preprocessing) -> bool:
    """Whether images are prepared alike; a crop may be a pixel's rounding apart."""
    return replace(own, crop=1.0) == replace(other, crop=1.0) and abs(own.crop - other.crop) < 0.005


def heads_of(model: Any) -> int:
    """The heads of a plain ViT, which some formats need and some cannot say; 0 where each stage has its own."""
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
        found["position"] = LearnedPosition  # there is no token that it could leave out
    return found


def same(part: type, other: type) -> bool:
    """Whether two classes compute the same, however they start; fixed positions are a table like a learned one."""
    if (part, other) == (SinCosPosition, LearnedPosition):
        return True
    run, of_other = (getattr(one, "forward", one.__call__) for one in (part, other))
    return run is of_other


@torch.no_grad()
def difference(model: Any, other: Any) -> float:
    """How far apart two models' answers to one image of noise are, of the largest answer."""
    size = model.config["img_size"]
    image = torch.randn(1, model.config["in_channels"], *size, generator=torch.Generator().manual_seed(0))
    plain = model if next(model.parameters()).dtype == torch.float32 else deepcopy(model).float()
    training = plain.training
    ours = plain.eval()(image)
    plain.train(training)
    return float((ours - other.float().eval()(image)).abs().max() / ours.abs().max().clamp(min=1e-12))
