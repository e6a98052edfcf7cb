"""timm's Swin: patches are merged at the start of a stage."""

import re
from typing import Any

from vitral.base.errors import ConfigError
from vitral.weights import swin
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.source import IMAGENET, CheckpointMetadata, Config
from vitral.weights.sources import timm

SUPPORTED_NAMES = re.compile(
    r"swin_(tiny|small|base|large)_patch\d+_window\d+_\d+(_in22(k|ft1k))?|swin_s3_(tiny|small|base)_\d+"
)


def recognises(checkpoint: Checkpoint) -> bool:
    names = checkpoint.tensors
    # timm's and Microsoft's files differ in whether the first stage merges patches, also without a head
    return "layers.0.blocks.0.attn.qkv.weight" in names and "layers.0.downsample.reduction.weight" not in names


def metadata(checkpoint: Checkpoint) -> CheckpointMetadata:
    timm.check_architecture_name(checkpoint, SUPPORTED_NAMES, "swin_tiny_patch4_window7_224")
    timm.check_arguments(
        checkpoint, timm.SIZES | timm.FROM_TENSORS | {"depths", "window_size", "strict_img_size", "head_dim"}
    )
    if (pool := checkpoint.config.get("global_pool", "avg")) != "avg":
        raise ConfigError(
            f"config.json has global_pool={pool!r}; Vitral's Swin supports 'avg', the mean of its last feature map."
        )
    windows = checkpoint.config.get("model_args", {}).get("window_size")
    if isinstance(windows, list) and any(side != windows[0] for side in windows):
        raise ConfigError(f"config.json has window_size={windows}; {swin.SQUARE}, the same in every stage.")
    return timm.pixel_metadata(checkpoint, IMAGENET | dict(crop=0.9), "as timm's Swin")


def config_files(model: Any) -> dict[str, str]:
    """timm's `config.json`."""
    config = model.config
    if len({*config["patch_size"]}) > 1:
        raise ConfigError("timm's Swin takes square patches only.")
    arguments = {name: config[name] for name in ("embed_dim", "depths", "num_heads", "window_size", "mlp_ratio")}
    arguments |= {"img_size": list(config["img_size"]), "patch_size": config["patch_size"][0]}
    if config["in_channels"] != 3:
        arguments["in_chans"] = config["in_channels"]
    return timm.config_of(model, "swin_tiny_patch4_window7_224", arguments, "head.fc")


def known_discrepancies(config: Config) -> tuple[str, ...]:
    def differs(rows: int, columns: int, window: int) -> bool:
        """Where the padding is exactly the shift, the windows hold the same tokens whichever comes first."""
        same = (0, window - window // 2)
        return any(side > window and side % window not in same for side in (rows, columns))

    does = "shifts a feature map before it pads it to whole windows"
    return swin.cropped_pixels("timm", config) + swin.discrepancy_at("timm", does, config, differs)


def export_notes(config: Config) -> tuple[str, ...]:
    does = "resamples the bias tables of windows that are larger than a feature map when it loads them"
    return swin.discrepancy_at("timm", does, config, swin.is_smaller)


swin_timm = swin.swin_source(
    "swin_timm",
    ("layers.0.blocks.0.attn.qkv.weight",),
    recognises,
    lambda tensors: swin.rules("head.fc"),
    metadata,
    prepare=swin.check_square_windows,
    known_discrepancies=known_discrepancies,
    export_notes=export_notes,
    config_files=config_files,
)
