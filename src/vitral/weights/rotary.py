"""What DINOv3's formats share: rotary positions, LayerScale, keys without a bias (Siméoni et al. 2025, §3.2)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.nn.block import LayerNorm
from vitral.nn.family.position import NoPosition
from vitral.weights.source import Tensors
from vitral.weights.vit import vit_settings

PUBLISHED_AT = (256, 256)
PUBLISHED_BASE = 100.0  # of the periods of rotary positions
ANY_SIZE = "images of 256 x 256, as in most of its training; img_size sets another size"
MASKED = "it replaces hidden patches in pre-training only"


def rotary_settings(tensors: Tensors, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the `VisionTransformer` with rotary positions that these tensors are of."""
    from vitral.nn.family.rope import RotaryAttention  # here: every source is imported to find the one that fits

    parts: dict[str, Any] = dict(mixer=RotaryAttention, position=NoPosition, norm=partial(LayerNorm, eps=1e-5))
    return parts | vit_settings(tensors, dict(img_size=PUBLISHED_AT) | parts | dict(given))


def add_key_biases(theirs: Tensors, queries: str, keys: str) -> dict[str, Tensor]:
    """Add zeros for the biases of keys, wherever queries have one and keys have none."""
    found = dict(theirs)
    for name in theirs:
        if name.endswith(queries) and (key := name.removesuffix(queries) + keys) not in theirs:
            found[key] = torch.zeros_like(theirs[name])
    return found


def drop_key_biases(theirs: Tensors, keys: str, format: str) -> dict[str, Tensor]:
    """Remove the biases of keys. Raises `ConfigError` if one is not zero, so that it would be lost."""
    if lost := [name for name, tensor in theirs.items() if name.endswith(keys) and bool(tensor.any())]:
        raise ConfigError(
            f"{format} has no key biases in models with rotary positions, but {len(lost)} of this model's are not zero."
        )
    return {name: tensor for name, tensor in theirs.items() if not name.endswith(keys)}
