"""What DINOv3's spellings share: rotary positions, LayerScale, keys without a bias (Siméoni et al. 2025, §3.2)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitral.base.errors import ConfigError
from vitral.nn.block import LayerNorm
from vitral.nn.family.position import NoPosition
from vitral.nn.family.rope import RotaryAttention
from vitral.weights.architecture import vit_of
from vitral.weights.rules import Rule, rule
from vitral.weights.source import Tensors

PUBLISHED_AT = (256, 256)
ANY_SIZE = "images of 256 x 256, as it was trained mostly: img_size takes any other"
MASKED = "it stands for hidden patches while pre-training only"


def rotary_of(tensors: Tensors, known: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the `VisionTransformer` with rotary positions that these tensors are of."""
    parts = dict(mixer=RotaryAttention, position=NoPosition, norm=partial(LayerNorm, eps=1e-5))
    return parts | vit_of(tensors, dict(img_size=PUBLISHED_AT) | parts | dict(known))


def biases(q: str, k: str, v: str) -> Rule:
    """Ours are one, theirs three or two: that of the keys is zero where they have none."""
    return rule("blocks.{i}.attn.qkv.bias", q, k, v)


def with_key_biases(theirs: Tensors, queries: str, keys: str) -> dict[str, Tensor]:
    """Zeros for the biases of keys, wherever queries have one and keys have none."""
    found = dict(theirs)
    for name in theirs:
        if name.endswith(queries) and (key := name.removesuffix(queries) + keys) not in theirs:
            found[key] = torch.zeros_like(theirs[name])
    return found


def without_key_biases(theirs: Tensors, keys: str, format: str) -> dict[str, Tensor]:
    """Theirs without the keys' biases. Raises `ConfigError` if one is not zero, so that it would be lost."""
    if lost := [name for name, tensor in theirs.items() if name.endswith(keys) and bool(tensor.any())]:
        raise ConfigError(
            f"{format} has no bias of keys in a model with rotary positions, but {len(lost)} of this one are not zero."
        )
    return {name: tensor for name, tensor in theirs.items() if not name.endswith(keys)}
