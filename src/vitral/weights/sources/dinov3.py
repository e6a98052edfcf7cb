"""DINOv3 as its authors wrote it (Siméoni et al. 2025), told by the file itself.

timm's names but for registers and the gated MLP. The file carries the periods of its rotary positions, which must be
the published ones, and a mask over the biases of queries, keys and values: that of the keys is always zero.
"""

import torch

from vitral.base.errors import StoreError
from vitral.nn.family.rope import RotaryAttention
from vitral.weights.architecture import IMAGENET, Known
from vitral.weights.reading import Contents
from vitral.weights.rotary import ANY_SIZE, MASKED, rotary_of
from vitral.weights.rules import Rule, rule
from vitral.weights.source import Source, Tensors
from vitral.weights.sources.timm import rules as of_timm

PERIODS = "rope_embed.periods"


def recognises(contents: Contents) -> bool:
    return PERIODS in contents.tensors or "storage_tokens" in contents.tensors


def rules(tensors: Tensors) -> list[Rule]:
    return [
        rule("reg_token", "storage_tokens"),
        rule("blocks.{i}.mlp.fc1.{p}", "blocks.{i}.mlp.w1.{p}", "blocks.{i}.mlp.w2.{p}"),
        rule("blocks.{i}.mlp.fc2.{p}", "blocks.{i}.mlp.w3.{p}"),
        *(one for one in of_timm(tensors) if one.ours != "reg_token"),
    ]


def prepare(theirs: Tensors) -> Tensors:
    """Biases as they are used, those of keys masked. Raises `StoreError` for periods that are not 100's powers."""
    if (periods := theirs.get(PERIODS)) is not None:
        published = RotaryAttention.base ** (torch.arange(len(periods)) / len(periods))
        if not torch.allclose(periods.to(published), published, rtol=0.01):  # they were saved in bfloat16
            raise StoreError(f"{PERIODS} are not those of DINOv3, 1 to 100: Vitral has no such positions.")
    found = dict(theirs)
    for name, bias in theirs.items():
        if name.endswith("attn.qkv.bias") and (mask := theirs.get(f"{name}_mask")) is not None:
            found[name] = bias * mask.nan_to_num()
    return found


def known(contents: Contents) -> Known:
    return Known(
        preprocessing=IMAGENET, assumed=("pixels of ImageNet's mean and deviation, as DINOv3's code", ANY_SIZE)
    )


dinov3 = Source(
    "dinov3",
    recognises,
    rules,
    known,
    dropped={
        "mask_token": MASKED,
        PERIODS: "they are 100 to the powers that the model computes itself, and exact there",
        "blocks.{i}.attn.qkv.bias_mask": "it was applied: the keys' biases are zero",
        "local_cls_norm.{p}": "it norms the class token of small crops while pre-training only",
    },
    prepare=prepare,
    settings=rotary_of,
)
