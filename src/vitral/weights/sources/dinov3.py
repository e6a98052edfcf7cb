"""DINOv3 as its authors wrote it (Siméoni et al. 2025).

timm's names, except for registers and the gated MLP. The file carries the periods of its rotary positions, which must
be the published ones, and a mask over the biases of queries, keys and values: the keys' part of it is always zero.

All of DINOv3's formats have rotary positions, LayerScale, and keys without a bias (§3.2): what they share is here.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitral.base.errors import ConfigError, StoreError
from vitral.nn.block import LayerNorm
from vitral.nn.family.position import NoPosition
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import Rule, rule
from vitral.weights.source import IMAGENET, Source, Tensors, fixed_metadata
from vitral.weights.sources.timm import rules as timm_rules
from vitral.weights.vit import vit_settings

PUBLISHED_AT = (256, 256)
PUBLISHED_BASE = 100.0  # of the periods of rotary positions
ANY_SIZE = "images of 256 x 256, as in most of its training; img_size sets another size"
MASKED = "it replaces masked patches in pre-training only"
PERIODS = "rope_embed.periods"


def recognises(checkpoint: Checkpoint) -> bool:
    return PERIODS in checkpoint.tensors or "storage_tokens" in checkpoint.tensors


def rules(tensors: Tensors) -> list[Rule]:
    return [
        rule("reg_token", "storage_tokens"),
        rule("blocks.{i}.mlp.fc1.{p}", "blocks.{i}.mlp.w1.{p}", "blocks.{i}.mlp.w2.{p}"),
        rule("blocks.{i}.mlp.fc2.{p}", "blocks.{i}.mlp.w3.{p}"),
        *(one for one in timm_rules(tensors) if one.ours != "reg_token"),
    ]


def prepare(theirs: Tensors) -> Tensors:
    """Biases with their mask applied. Raises `StoreError` for periods that are not powers of 100."""
    if (periods := theirs.get(PERIODS)) is not None:
        published = PUBLISHED_BASE ** (torch.arange(len(periods)) / len(periods))
        if not torch.allclose(periods.to(published), published, rtol=0.01):  # they were saved in bfloat16
            raise StoreError(
                f"{PERIODS} are not the periods of DINOv3, which rise from 1 to 100: such positions are not supported."
            )
    found = dict(theirs)
    for name, bias in theirs.items():
        if name.endswith("attn.qkv.bias") and (mask := theirs.get(f"{name}_mask")) is not None:
            found[name] = bias * mask.nan_to_num()
    return found


metadata = fixed_metadata(IMAGENET, "as in DINOv3's code", ANY_SIZE)


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


dinov3 = Source(
    "dinov3",
    (PERIODS, "storage_tokens"),
    recognises,
    rules,
    metadata,
    dropped={
        "mask_token": MASKED,
        PERIODS: "the model computes these powers of 100 itself, in full precision",
        "blocks.{i}.attn.qkv.bias_mask": "it has been applied: the keys' biases are zero",
        "local_cls_norm.{p}": "it normalises the class token of small crops in pre-training only",
    },
    prepare=prepare,
    settings=rotary_settings,
)
