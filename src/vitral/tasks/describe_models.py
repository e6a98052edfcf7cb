"""The models of the zoo: their sizes, and what one costs, before any weight exists."""

from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch

from vitral.base.errors import ConfigError, UnknownName
from vitral.base.lookup import nearest
from vitral.nn.cost import BlockCost, cost
from vitral.nn.families import Model
from vitral.nn.family.cnn import ResNet
from vitral.nn.family.segmenter import Segmenter
from vitral.nn.zoo import create, list_models

SINGLE = 4  # bytes of a number in float32


@dataclass(frozen=True)
class ModelSize:
    """A model's sizes; a model with stages has the tokens of its last stage and one depth and heads per stage."""

    name: str
    parameters: int
    img_size: tuple[int, ...]
    patch_size: tuple[int, ...]
    tokens: int
    embed_dim: int
    depth: int | tuple[int, ...]
    num_heads: int | tuple[int, ...]


@dataclass(frozen=True)
class ModelCost:
    """What a model costs for one image: multiply-accumulates, and bytes in float32.

    `kept_bytes` are the activations kept for the backward pass, `weights_bytes` all attention weights, which no fused
    kernel stores; `attention_overtakes_at` is the number of tokens at which attention costs as much as the linear
    layers, `attended` the number of tokens that attend to each other here; both are None without attention.
    """

    name: str
    img_size: tuple[int, int]
    parameters: int
    macs: int
    kept_bytes: int
    weights_bytes: int
    attention_overtakes_at: int | None
    attended: int | None
    in_windows: bool
    blocks: tuple[BlockCost, ...]


def list_sizes(pattern: str = "*", num_classes: int = 1000) -> tuple[ModelSize, ...]:
    """The sizes of all models whose names match a shell pattern. Raises `UnknownName` if none does."""
    found = list_models(pattern)
    if not found:
        raise UnknownName(
            f"No model matches {pattern!r}.{nearest(pattern, list_models())} `vitral models` lists them all."
        )
    return tuple(size_of(name, on_meta(name, num_classes=num_classes)) for name in found)


def on_meta(name: str, **overrides: Any) -> Model:
    """A model without memory for its weights."""
    with torch.device("meta"):
        return create(name, **overrides)


def size_of(name: str, model: Model) -> ModelSize:
    config, (height, width) = model.config, model.grid
    return ModelSize(
        name,
        sum(p.numel() for p in model.parameters()),
        tuple(config["img_size"]),
        tuple(config.get("patch_size", ())),
        height * width + model.num_prefix_tokens,
        config["embed_dim"],
        config.get("depth", config.get("depths", ())),
        config.get("num_heads", ()),
    )


def model_cost(name: str, img_size: tuple[int, int] | None = None, num_classes: int = 1000) -> ModelCost:
    """What one model costs for one image, block by block. Raises `ConfigError` for a model without tokens."""
    size: dict[str, Any] = {"img_size": img_size} if img_size else {}
    model = on_meta(name, num_classes=num_classes, **size)
    assert not isinstance(model, Segmenter), "the zoo's names are encoders"
    if isinstance(model, ResNet):
        raise ConfigError(
            f"{name} has no attention: costs are shown for models with attention only. `vitral models` lists its size."
        )
    found = cost(model)
    first = found.blocks[0]
    attended = isqrt(first.mixing.entries) or None
    # Attention costs 2 N n D for N tokens that each attend to n; the linear layers cost N (4 D² + 2 D M).
    even = (first.mixing.linear + first.mlp) // (2 * first.tokens * first.width) if attended else None
    return ModelCost(
        name,
        model.preprocessing.size,
        found.parameters,
        found.macs,
        sum(block.kept for block in found.blocks) * SINGLE,
        sum(block.weights for block in found.blocks) * SINGLE,
        even,
        attended,
        attended is not None and attended < first.tokens,
        found.blocks,
    )
