"""timm's Swin: patches are merged at the start of a stage."""

from typing import Any

from vitral.base.errors import ConfigError
from vitral.weights.architecture import IMAGENET, Known
from vitral.weights.reading import Contents
from vitral.weights.rules import Rule
from vitral.weights.source import Source, Tensors
from vitral.weights.sources.timm import check_arguments, config_of, pixels
from vitral.weights.swin import check_windows, swin_of, whole_tables
from vitral.weights.swin import rules as shared


def recognises(contents: Contents) -> bool:
    names = contents.tensors
    # without a head and merging, timm's and Microsoft's files are told apart by the stage that merges first
    return "layers.0.blocks.0.attn.qkv.weight" in names and "layers.0.downsample.reduction.weight" not in names


def rules(tensors: Tensors) -> list[Rule]:
    return shared("head.fc")


def known(contents: Contents) -> Known:
    check_arguments(contents)
    if (pool := contents.config.get("global_pool", "avg")) != "avg":
        raise ConfigError(f"config.json says global_pool={pool!r}; Vitral's Swin reads the mean of its map ('avg').")
    found = pixels(contents, IMAGENET | dict(crop=0.9), "pixels of ImageNet's mean and deviation, the middle 0.9")
    if size := found.settings.get("img_size"):
        check_windows(contents.tensors, size)
    return found


def writes(model: Any) -> dict[str, str]:
    """timm's `config.json`."""
    config = model.config
    if len({*config["patch_size"]}) > 1:
        raise ConfigError("timm's Swin takes square patches only.")
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
