"""DINOv2 as its authors wrote it, with and without registers (Oquab et al. 2023; Darcet et al. 2024).

timm's names, except for registers and the gated MLP; training checkpoints number their blocks within chunks. CLS has a
position of its own and registers have none (Darcet et al. 2024): with registers, ours keeps both as one vector.
"""

import re

import torch
from torch import Tensor

from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import Rule, rule
from vitral.weights.source import IMAGENET, CheckpointMetadata, Source, Tensors
from vitral.weights.sources.timm import rules as timm_rules


def recognises(checkpoint: Checkpoint) -> bool:
    names = checkpoint.tensors
    own = {"mask_token", "pos_embed"} <= set(names)
    return not checkpoint.config and own and any(name.endswith("ls1.gamma") for name in names)


def join_chunks(theirs: Tensors) -> Tensors:
    """`blocks.2.7.norm1.weight` is block 7, in chunk 2."""
    return {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): tensor for name, tensor in theirs.items()}


def fold_cls_position(theirs: Tensors, cls: str, positions: str) -> dict[str, Tensor]:
    """Add the position of the class token to the token, and take it out of the table."""
    table = theirs[positions]
    return {**theirs, cls: theirs[cls] + table[:, :1], positions: table[:, 1:]}


def unfold_cls_position(theirs: Tensors, positions: str) -> dict[str, Tensor]:
    """Put a position of zeros for the class token into the table: its own is in the token."""
    table = theirs[positions]
    return {**theirs, positions: torch.cat([torch.zeros_like(table[:, :1]), table], dim=1)}


def prepare(theirs: Tensors) -> Tensors:
    found = join_chunks(theirs)
    own = {"register_tokens", "pos_embed", "cls_token"} <= set(found)
    return fold_cls_position(found, "cls_token", "pos_embed") if own else found


def rules(tensors: Tensors) -> list[Rule]:
    return [
        rule("reg_token", "register_tokens"),
        rule("blocks.{i}.mlp.fc1.{p}", "blocks.{i}.mlp.w12.{p}"),
        rule("blocks.{i}.mlp.fc2.{p}", "blocks.{i}.mlp.w3.{p}"),
        *(one for one in timm_rules(tensors) if one.ours != "reg_token"),
    ]


def metadata(checkpoint: Checkpoint) -> CheckpointMetadata:
    words = "as in DINOv2's code"
    resampling = "timm" if "register_tokens" in checkpoint.tensors else "dinov2"
    return CheckpointMetadata(preprocessing=IMAGENET, preprocessing_words=words, resampling=resampling)


dinov2 = Source(
    "dinov2",
    ("mask_token",),
    recognises,
    rules,
    metadata,
    dropped={"mask_token": "it replaces masked patches in pre-training only"},
    prepare=prepare,
)
