"""timm's Swin: patches are merged at the start of a stage."""

import re
from typing import Any

from vitral.base.errors import ConfigError
from vitral.weights.architecture import IMAGENET, Known
from vitral.weights.reading import Contents
from vitral.weights.rules import Rule
from vitral.weights.source import Config, Tensors
from vitral.weights.sources.timm import SIZES, TOLD, check_arguments, check_named, config_of, pixels
from vitral.weights.swin import SQUARE, cut_off, otherwise, smaller, swin_source, with_square_windows
from vitral.weights.swin import rules as shared

NAMED = re.compile(r"swin_(tiny|small|base|large)_patch\d+_window\d+_\d+(_in22(k|ft1k))?|swin_s3_(tiny|small|base)_\d+")


def recognises(contents: Contents) -> bool:
    names = contents.tensors
    # without a head and merging, timm's and Microsoft's files are told apart by the stage that merges first
    return "layers.0.blocks.0.attn.qkv.weight" in names and "layers.0.downsample.reduction.weight" not in names


def rules(tensors: Tensors) -> list[Rule]:
    return shared("head.fc")


def known(contents: Contents) -> Known:
    check_named(contents, NAMED, "swin_tiny_patch4_window7_224")
    check_arguments(contents, SIZES | TOLD | {"depths", "window_size", "strict_img_size", "head_dim"})
    if (pool := contents.config.get("global_pool", "avg")) != "avg":
        raise ConfigError(f"config.json says global_pool={pool!r}; Vitral's Swin reads the mean of its map ('avg').")
    said = contents.config.get("model_args", {}).get("window_size")
    if isinstance(said, list) and any(side != said[0] for side in said):
        raise ConfigError(f"config.json says window_size={said}; {SQUARE}, in every stage.")
    return pixels(contents, IMAGENET | dict(crop=0.9), "pixels of ImageNet's mean and deviation, the middle 0.9")


def writes(model: Any) -> dict[str, str]:
    """timm's `config.json`."""
    config = model.config
    if len({*config["patch_size"]}) > 1:
        raise ConfigError("timm's Swin takes with_square_windows patches only.")
    said = {name: config[name] for name in ("embed_dim", "depths", "num_heads", "window_size", "mlp_ratio")}
    said |= {"img_size": list(config["img_size"]), "patch_size": config["patch_size"][0]}
    if config["in_channels"] != 3:
        said["in_chans"] = config["in_channels"]
    return config_of(model, "swin_tiny_patch4_window7_224", said, "head.fc")


def unlike(config: Config) -> tuple[str, ...]:
    def odd(rows: int, columns: int, window: int) -> bool:
        """Padding of just a shift is the same tokens, before it or after it."""
        same = (0, window - window // 2)
        return any(side > window and side % window not in same for side in (rows, columns))

    does = "shifts a map before it pads it to whole windows"
    return cut_off("timm", config) + otherwise("timm", does, config, odd)


def told(config: Config) -> tuple[str, ...]:
    does = "resamples the table of windows that are larger than a map when it loads it"
    return otherwise("timm", does, config, smaller)


swin_timm = swin_source(
    "swin_timm",
    recognises,
    rules,
    known,
    prepare=with_square_windows,
    unlike=unlike,
    told=told,
    writes=writes,
)
