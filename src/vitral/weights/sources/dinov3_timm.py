"""DINOv3 as timm saves it: the names of its EVA models, biases of queries and values apart."""

import re
from dataclasses import replace
from typing import Any

from vitral.nn.family.mlp import SwiGLU
from vitral.nn.family.pool import MeanPool
from vitral.nn.head import CLSPool
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import Rule, rule
from vitral.weights.source import IMAGENET, CheckpointMetadata, Source, Tensors
from vitral.weights.sources import timm
from vitral.weights.sources.dinov3 import ANY_SIZE, add_key_biases, drop_key_biases, rotary_settings
from vitral.weights.vit import is_gated

QUERIES, KEYS = "attn.q_bias", "attn.k_bias"
LAYER = "blocks.{i}."
SUPPORTED_NAMES = re.compile(r"vit_[a-z0-9]+(_plus)?_patch16_dinov3(_qkvb)?")
POOLS = {"token": CLSPool, "avg": MeanPool}


def recognises(checkpoint: Checkpoint) -> bool:
    names = checkpoint.tensors
    own = "dinov3" in str(checkpoint.config.get("architecture")) if checkpoint.config else "reg_token" in names
    rotary = "blocks.0.gamma_1" in names and not {"pos_embed", "storage_tokens"} & set(names)
    return timm.is_plain_vit(checkpoint) and rotary and own


def rules(tensors: Tensors) -> list[Rule]:
    gated = is_gated(tensors) or "blocks.0.mlp.fc1_g.weight" in tensors
    halves = rule(f"{LAYER}mlp.fc1.{{p}}", f"{LAYER}mlp.fc1_g.{{p}}", f"{LAYER}mlp.fc1_x.{{p}}")
    return [
        rule(f"{LAYER}attn.qkv.bias", *(f"{LAYER}attn.{part}_bias" for part in "qkv")),
        rule(f"{LAYER}ls{{j}}.gamma", f"{LAYER}gamma_{{j}}"),
        *([halves] if gated else []),
        *timm.rules(tensors),
    ]


def metadata(checkpoint: Checkpoint) -> CheckpointMetadata:
    """From timm's `config.json`. A bare file's head reads CLS, as its authors' does; timm's would take the mean."""
    found = timm.pixel_metadata(checkpoint, IMAGENET, "as in DINOv3's code")
    if not checkpoint.config:
        found = replace(found, assumed=("the head reads the class token, as in DINOv3's code", ANY_SIZE))
    heads = {key: value for key, value in checkpoint.config.get("model_args", {}).items() if key == "num_heads"}
    timm.check_architecture_name(checkpoint, SUPPORTED_NAMES, "vit_small_patch16_dinov3")
    timm.check_arguments(
        checkpoint, timm.SIZES | timm.FROM_TENSORS | {"num_reg_tokens", "swiglu_mlp", "swiglu_align_to"}
    )
    pool = POOLS[timm.stated_pool(checkpoint) or "token"]
    return replace(found, settings=found.settings | heads | dict(pool=pool))


def config_files(model: Any) -> dict[str, str]:
    arguments = timm.arguments(model)
    kept = ("img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio", "global_pool")
    own = {key: value for key, value in arguments.items() if key in kept} | {"num_reg_tokens": arguments["reg_tokens"]}
    own["mlp_ratio"] = model.config["mlp_ratio"]
    gated = isinstance(model.blocks[0].mlp, SwiGLU)
    return timm.config_of(model, f"vit_small{'_plus' if gated else ''}_patch16_dinov3_qkvb", own)


dinov3_timm = Source(
    "dinov3_timm",
    ("blocks.0.gamma_1",),
    recognises,
    rules,
    metadata,
    prepare=lambda theirs: add_key_biases(theirs, QUERIES, KEYS),
    finish=lambda theirs: drop_key_biases(theirs, KEYS, "timm"),
    settings=rotary_settings,
    config_files=config_files,
)
