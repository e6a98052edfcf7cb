"""DINOv2 as its authors wrote it, with and without registers (Oquab et al. 2023; Darcet et al. 2024).

timm's names but for registers and the gated MLP; training checkpoints number their blocks within chunks. CLS has a
position of its own and registers have none: with registers, CLS and its position are kept as one vector.
"""

import re

from vitral.weights.architecture import IMAGENET, Known
from vitral.weights.reading import Contents
from vitral.weights.registers import folded
from vitral.weights.rules import Rule, rule
from vitral.weights.source import Source, Tensors
from vitral.weights.sources.timm import rules as of_timm


def recognises(contents: Contents) -> bool:
    names = contents.tensors
    own = {"mask_token", "pos_embed"} <= set(names)
    return not contents.config and own and any(name.endswith("ls1.gamma") for name in names)


def unchunked(theirs: Tensors) -> Tensors:
    """`blocks.2.7.norm1.weight` is block 7, in chunk 2."""
    return {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): tensor for name, tensor in theirs.items()}


def prepare(theirs: Tensors) -> Tensors:
    found = unchunked(theirs)
    own = {"register_tokens", "pos_embed", "cls_token"} <= set(found)
    return folded(found, "cls_token", "pos_embed") if own else found


def rules(tensors: Tensors) -> list[Rule]:
    return [
        rule("reg_token", "register_tokens"),
        rule("blocks.{i}.mlp.fc1.{p}", "blocks.{i}.mlp.w12.{p}"),
        rule("blocks.{i}.mlp.fc2.{p}", "blocks.{i}.mlp.w3.{p}"),
        *(one for one in of_timm(tensors) if one.ours != "reg_token"),
    ]


def known(contents: Contents) -> Known:
    return Known(
        preprocessing=IMAGENET,
        assumed=("pixels of ImageNet's mean and deviation, as DINOv2's code",),
        resampling="dinov2" if "register_tokens" not in contents.tensors else "timm",
    )


dinov2 = Source(
    "dinov2",
    recognises,
    rules,
    known,
    dropped={"mask_token": "it stands for hidden patches while pre-training only"},
    prepare=prepare,
)
