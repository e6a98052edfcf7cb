"""timm's Swin: patches are merged at the start of a stage."""

from typing import Any

from vitral.weights.architecture import IMAGENET, Known
from vitral.weights.reading import Contents
from vitral.weights.rules import Rule
from vitral.weights.source import Source, Tensors
from vitral.weights.sources.timm import config_of, pixels
from vitral.weights.swin import rules as shared
from vitral.weights.swin import swin_of, whole_tables


def recognises(contents: Contents) -> bool:
    names = contents.tensors
    # without a head and merging, timm's and Microsoft's files are told apart by the stage that merges first
    return "layers.0.blocks.0.attn.qkv.weight" in names and "layers.0.downsample.reduction.weight" not in names


def rules(tensors: Tensors) -> list[Rule]:
    return shared("head.fc")


def known(contents: Contents) -> Known:
    return pixels(contents, IMAGENET | dict(crop=0.9), "pixels of ImageNet's mean and deviation, the middle 0.9")


def writes(model: Any) -> dict[str, str]:
    """timm's `config.json`."""
    config = model.config
    said = {name: config[name] for name in ("embed_dim", "depths", "num_heads", "window_size", "mlp_ratio")}
    said |= {"img_size": list(config["img_size"]), "patch_size": config["patch_size"][0]}
    if config["in_channels"] != 3:
        said["in_chans"] = config["in_channels"]
    return config_of(model, "swin_tiny_patch4_window7_224", said, "head.fc")


BUFFER = "a table of places that follows from the window"

swin_timm = Source(
    "swin_timm",
    recognises,
    rules,
    known,
    family="swin",
    dropped={
        "layers.{s}.blocks.{i}.attn.relative_position_index": BUFFER,
        "layers.{s}.blocks.{i}.attn_mask": BUFFER,
    },
    prepare=whole_tables,
    settings=swin_of,
    writes=writes,
)
