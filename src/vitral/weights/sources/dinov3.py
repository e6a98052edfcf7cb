"""DINOv3 as its authors wrote it (Siméoni et al. 2025).

timm's names, except for registers and the gated MLP. The file carries the periods of its rotary positions, which must
be the published ones, and a mask over the biases of queries, keys and values: the keys' part of it is always zero.
"""

import torch

from vitral.base.errors import StoreError
from vitral.weights.checkpoint_file import Checkpoint
from vitral.weights.rotary import ANY_SIZE, MASKED, PUBLISHED_BASE, rotary_settings
from vitral.weights.rules import Rule, rule
from vitral.weights.source import IMAGENET, Source, Tensors, fixed_metadata
from vitral.weights.sources.timm import rules as timm_rules

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


metadata = fixed_metadata(IMAGENET, "preprocessing: ImageNet's mean and std, as in DINOv3's code", ANY_SIZE)
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
