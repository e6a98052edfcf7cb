"""torchvision's ViT. Its fused projection is laid out as ours; heads are 64 wide and preprocessing is ImageNet's.

Files written before 2022 call the MLP's layers `linear_1` and `linear_2`.
"""

from typing import Any

from vitral.base.errors import ConfigError
from vitral.nn.family.mlp import SwiGLU
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import Rule, rule
from vitral.weights.source import IMAGENET, Source, Tensors, fixed_metadata

LAYER = "encoder.layers.encoder_layer_{i}."


def recognises(checkpoint: Checkpoint) -> bool:
    return "conv_proj.weight" in checkpoint.tensors and "encoder.pos_embedding" in checkpoint.tensors


def rules(tensors: Tensors) -> list[Rule]:
    return [
        rule("cls_token", "class_token"),
        rule("pos_embed", "encoder.pos_embedding"),
        rule("patch_embed.proj.{p}", "conv_proj.{p}"),
        rule("blocks.{i}.norm{j}.{p}", f"{LAYER}ln_{{j}}.{{p}}"),
        rule("blocks.{i}.attn.qkv.{p}", f"{LAYER}self_attention.in_proj_{{p}}"),
        rule("blocks.{i}.attn.proj.{p}", f"{LAYER}self_attention.out_proj.{{p}}"),
        rule("blocks.{i}.mlp.fc1.{p}", f"{LAYER}mlp.0.{{p}}"),
        rule("blocks.{i}.mlp.fc2.{p}", f"{LAYER}mlp.3.{{p}}"),
        rule("blocks.{i}.mlp.fc{j}.{p}", f"{LAYER}mlp.linear_{{j}}.{{p}}"),
        rule("norm.{p}", "encoder.ln.{p}"),
        rule("head.0.{p}", "heads.pre_logits.{p}"),
        rule("head.2.{p}", "heads.head.{p}") if has_hidden_layer(tensors) else rule("head.{p}", "heads.head.{p}"),
    ]


def has_hidden_layer(tensors: Tensors) -> bool:
    return "heads.pre_logits.weight" in tensors or "head.2.weight" in tensors


metadata = fixed_metadata(
    IMAGENET | dict(crop=0.875, interpolation="bilinear"),
    "as for torchvision's weights",
    resampling="torchvision",
)


def required(ours: Tensors) -> tuple[str, ...]:
    return ("pos_embed", "cls_token", "head.2.weight" if has_hidden_layer(ours) else "head.weight")


def config_files(model: Any) -> dict[str, str]:
    """None. Raises `ConfigError` for what has a name in this format but no place in torchvision's class."""
    if isinstance(model.blocks[0].mlp, SwiGLU):
        raise ConfigError("torchvision's ViT has no gated MLP.")
    if model.pos_embed is not None and model.pos_embed.shape[1] != model.grid[0] * model.grid[1] + 1:
        raise ConfigError("torchvision's ViT has a position for its class token, and this model does not.")
    return {}


torchvision = Source(
    "torchvision", ("conv_proj.weight",), recognises, rules, metadata, required=required, config_files=config_files
)
