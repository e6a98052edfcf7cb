"""torchvision's Swin: one list of stages and mergings, `features`, and an MLP that is a sequence."""

import re

from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import Rule, rule
from vitral.weights.source import IMAGENET, Config, Tensors, fixed_metadata
from vitral.weights.swin import TABLE, check_square_windows, cropped_pixels, discrepancy_at, is_smaller, swin_source

THEIRS = re.compile(r"features\.([1-9]\d*)\.")
OURS = re.compile(r"(blocks|merging)\.(\d+)\.")


def recognises(checkpoint: Checkpoint) -> bool:
    return "features.1.0.attn.relative_position_bias_table" in checkpoint.tensors


def prepare(theirs: Tensors) -> Tensors:
    """`features.5.2.attn...` is in stage 2, block 2; `features.4.norm` merges before it."""

    def rename(name: re.Match[str]) -> str:
        stage, is_blocks = divmod(int(name[1]), 2)
        return f"{'blocks' if is_blocks else 'merging'}.{stage}."

    return check_square_windows({THEIRS.sub(rename, name): tensor for name, tensor in theirs.items()})


def finish(theirs: Tensors) -> Tensors:
    def rename(name: re.Match[str]) -> str:
        return f"features.{2 * int(name[2]) + (name[1] == 'blocks')}."

    return {OURS.sub(rename, name): tensor for name, tensor in theirs.items()}


def rules(tensors: Tensors) -> list[Rule]:
    same = ("norm{j}.{p}", "attn.qkv.{p}", "attn.proj.{p}", TABLE)
    return [
        rule("patch_embed.proj.{p}", "features.0.0.{p}"),
        rule("patch_embed.norm.{p}", "features.0.2.{p}"),
        *(rule(f"layers.{{s}}.blocks.{{i}}.{name}", f"blocks.{{s}}.{{i}}.{name}") for name in same),
        rule("layers.{s}.blocks.{i}.mlp.fc1.{p}", "blocks.{s}.{i}.mlp.0.{p}"),
        rule("layers.{s}.blocks.{i}.mlp.fc2.{p}", "blocks.{s}.{i}.mlp.3.{p}"),
        rule("layers.{s}.downsample.norm.{p}", "merging.{s}.norm.{p}"),
        rule("layers.{s}.downsample.reduction.{p}", "merging.{s}.reduction.{p}"),
        rule("norm.{p}"),
        rule("head.{p}"),
    ]


metadata = fixed_metadata(
    IMAGENET | dict(crop=0.9),
    "as for torchvision's weights",
)


def known_discrepancies(config: Config) -> tuple[str, ...]:
    does = "pads a feature map to a whole window, and attends to the padding"
    small = discrepancy_at("torchvision", does, config, is_smaller)
    return cropped_pixels("torchvision", config) + small


swin_torchvision = swin_source(
    "swin_torchvision",
    ("features.1.0.attn.relative_position_bias_table",),
    recognises,
    rules,
    metadata,
    prepare=prepare,
    finish=finish,
    known_discrepancies=known_discrepancies,
)
