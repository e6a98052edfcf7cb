"""torchvision's ViT. Its fused projection is laid out as ours; heads are 64 wide and pixels are ImageNet's.

Files written before 2022 call the MLP's maps `linear_1` and `linear_2`.
"""

from typing import Any

from vitral.base.errors import ConfigError
from vitral.nn.family.mlp import SwiGLU
from vitral.weights.architecture import IMAGENET, Known
from vitral.weights.reading import Contents
from vitral.weights.rules import Rule, rule
from vitral.weights.source import Source, Tensors

LAYER = "encoder.layers.encoder_layer_{i}."


def recognises(contents: Contents) -> bool:
    return "conv_proj.weight" in contents.tensors and "encoder.pos_embedding" in contents.tensors


def rules(tensors: Tensors) -> list[Rule]:
    return [
        rule("cls_token", "class_token"),
        rule("pos_embed", "encoder.pos_embedding"),
        rule("patch_embed.proj.{p}", "conv_proj.{p}"),
        rule("blocks.{i}.norm1.{p}", f"{LAYER}ln_1.{{p}}"),
        rule("blocks.{i}.norm2.{p}", f"{LAYER}ln_2.{{p}}"),
        rule("blocks.{i}.attn.qkv.weight", f"{LAYER}self_attention.in_proj_weight"),
        rule("blocks.{i}.attn.qkv.bias", f"{LAYER}self_attention.in_proj_bias"),
        rule("blocks.{i}.attn.proj.{p}", f"{LAYER}self_attention.out_proj.{{p}}"),
        rule("blocks.{i}.mlp.fc1.{p}", f"{LAYER}mlp.0.{{p}}"),
        rule("blocks.{i}.mlp.fc2.{p}", f"{LAYER}mlp.3.{{p}}"),
        rule("blocks.{i}.mlp.fc1.{p}", f"{LAYER}mlp.linear_1.{{p}}"),
        rule("blocks.{i}.mlp.fc2.{p}", f"{LAYER}mlp.linear_2.{{p}}"),
        rule("norm.{p}", "encoder.ln.{p}"),
        rule("head.0.{p}", "heads.pre_logits.{p}"),
        rule("head.2.{p}", "heads.head.{p}") if hidden_head(tensors) else rule("head.{p}", "heads.head.{p}"),
    ]


def hidden_head(tensors: Tensors) -> bool:
    return "heads.pre_logits.weight" in tensors or "head.2.weight" in tensors


def known(contents: Contents) -> Known:
    return Known(
        preprocessing=IMAGENET | dict(crop=0.875, interpolation="bilinear"),
        assumed=("pixels of ImageNet's mean and deviation, bilinear, the middle 0.875, as torchvision's weights",),
        resampling="torchvision",
    )


def always(ours: Tensors) -> tuple[str, ...]:
    return ("pos_embed", "cls_token", "head.2.weight" if hidden_head(ours) else "head.weight")


def writes(model: Any) -> dict[str, str]:
    """No file more. Raises `ConfigError` for what has names there but no place."""
    if isinstance(model.blocks[0].mlp, SwiGLU):
        raise ConfigError("torchvision's ViT has no gated MLP.")
    if model.pos_embed is not None and model.pos_embed.shape[1] != model.grid[0] * model.grid[1] + 1:
        raise ConfigError("torchvision's ViT has a position for its class token, and this model has not.")
    return {}


torchvision = Source("torchvision", recognises, rules, known, always=always, writes=writes)
