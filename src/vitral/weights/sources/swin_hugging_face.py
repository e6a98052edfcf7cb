"""Hugging Face's Swin, in the names of transformers 4 (also in its files today) and of version 5 in memory."""

import re
from typing import Any

from vitral.base.errors import ConfigError
from vitral.weights.config_check import check_types, write_size
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import Rule, rule
from vitral.weights.source import CheckpointMetadata, Config, Tensors
from vitral.weights.sources import hugging_face
from vitral.weights.swin import BUFFERS, TABLE, discrepancy_at, is_smaller, shift_merging, swin_source

END = "relative_position_bias_table"


def recognises(checkpoint: Checkpoint) -> bool:
    return any(name.endswith(hugging_face.PATCHES) for name in checkpoint.tensors) and any(
        name.endswith(END) for name in checkpoint.tensors
    )


def prepare(theirs: Tensors) -> Tensors:
    """Merging moved to the start of the next stage; bias tables under our name."""
    found = {
        re.sub(rf"attention\.(?:self|relative_position_bias)\.{END}$", TABLE, name): t for name, t in theirs.items()
    }
    return shift_merging(found, 1)


def finish(theirs: Tensors) -> Tensors:
    found = shift_merging(theirs, -1)
    return {re.sub(rf"{re.escape(TABLE)}$", f"attention.self.{END}", name): tensor for name, tensor in found.items()}


def rules(tensors: Tensors) -> list[Rule]:
    m = hugging_face.prefix_of(tensors)  # empty for our names, which are written below `swin.` if there is a head
    m = "swin." if "patch_embed.proj.weight" in tensors and "head.weight" in tensors else m
    ours, layer = "layers.{s}.blocks.{i}.", f"{m}encoder.layers.{{s}}.blocks.{{i}}."
    return [
        rule("patch_embed.proj.{p}", f"{m}embeddings.patch_embeddings.projection.{{p}}"),
        rule("patch_embed.norm.{p}", f"{m}embeddings.norm.{{p}}"),
        *hugging_face.layer_rules(ours, layer, hugging_face.VIT_LAYER, "attention.self"),
        rule(f"{ours}{TABLE}", f"{layer}{TABLE}"),
        rule("layers.{s}.downsample.norm.{p}", f"{m}encoder.layers.{{s}}.downsample.norm.{{p}}"),
        rule("layers.{s}.downsample.reduction.{p}", f"{m}encoder.layers.{{s}}.downsample.reduction.{{p}}"),
        rule("norm.{p}", f"{m}layernorm.{{p}}"),
        rule("head.{p}", "classifier.{p}"),
    ]


def metadata(checkpoint: Checkpoint) -> CheckpointMetadata:
    hugging_face.check_type(checkpoint, "swin")
    for key, supported in (("hidden_act", "gelu"), ("layer_norm_eps", 1e-5)):
        if (found := checkpoint.config.get(key, supported)) != supported:
            raise ConfigError(f"config.json has {key}={found!r}; Vitral's Swin supports {supported}.")
    config = check_types(checkpoint.config)
    # `hidden_size` is that of the last stage, beside `embed_dim` of the first.
    return hugging_face.metadata_from_configs(checkpoint, config, {}, "timm", "hidden_size")


def config_files(model: Any) -> dict[str, str]:
    """`config.json` and `preprocessor_config.json`, from which transformers builds the model."""
    config = model.config
    written = {
        "model_type": "swin",
        "architectures": ["SwinForImageClassification" if config["num_classes"] else "SwinModel"],
        "image_size": write_size(config["img_size"]),
        "patch_size": write_size(config["patch_size"]),
        "num_channels": config["in_channels"],
        "embed_dim": config["embed_dim"],
        "depths": list(config["depths"]),
        "num_heads": list(config["num_heads"]),
        "window_size": config["window_size"],
        "mlp_ratio": config["mlp_ratio"],
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "qkv_bias": True,
    }
    return hugging_face.config_and_processor(model, written)


def known_discrepancies(config: Config) -> tuple[str, ...]:
    does = "does not shift a feature map whose shorter side is one window, and fails for a shorter one"
    return discrepancy_at(
        "transformers",
        does,
        config,
        lambda rows, columns, w: is_smaller(rows, columns, w) or (rows != columns and w in (rows, columns)),
    )


swin_hugging_face = swin_source(
    "swin_hugging_face",
    hugging_face.PATCHES,
    recognises,
    rules,
    metadata,
    dropped=BUFFERS | {"{m}embeddings.mask_token": "it replaces masked patches in pre-training only"},
    prepare=prepare,
    finish=finish,
    known_discrepancies=known_discrepancies,
    config_files=config_files,
)
