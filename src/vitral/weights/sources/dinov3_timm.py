"""DINOv3 as timm saves it: the names of its EVA models, biases of queries and values apart."""

import re
from dataclasses import replace
from typing import Any

from vitral.nn.family.mlp import SwiGLU
from vitral.nn.family.pool import MeanPool
from vitral.nn.head import CLSPool
from vitral.weights.architecture import IMAGENET, Known, is_gated
from vitral.weights.reading import Contents
from vitral.weights.rotary import ANY_SIZE, biases, rotary_of, with_key_biases, without_key_biases
from vitral.weights.rules import Rule, rule
from vitral.weights.source import Source, Tensors
from vitral.weights.sources import timm

QUERIES, KEYS = "attn.q_bias", "attn.k_bias"
LAYER = "blocks.{i}."
NAMED = re.compile(r"vit_[a-z0-9]+(_plus)?_patch16_dinov3(_qkvb)?")
POOLS = {"token": CLSPool, "avg": MeanPool}


def recognises(contents: Contents) -> bool:
    names = contents.tensors
    own = "dinov3" in str(contents.config.get("architecture")) if contents.config else "reg_token" in names
    rotary = "blocks.0.gamma_1" in names and not {"pos_embed", "storage_tokens"} & set(names)
    return timm.plain(contents) and rotary and own


def rules(tensors: Tensors) -> list[Rule]:
    gated = is_gated(tensors) or "blocks.0.mlp.fc1_g.weight" in tensors
    halves = rule(f"{LAYER}mlp.fc1.{{p}}", f"{LAYER}mlp.fc1_g.{{p}}", f"{LAYER}mlp.fc1_x.{{p}}")
    return [
        biases(*(f"{LAYER}attn.{part}_bias" for part in "qkv")),
        *(rule(f"{LAYER}ls{which}.gamma", f"{LAYER}gamma_{which}") for which in (1, 2)),
        *([halves] if gated else []),
        *timm.rules(tensors),
    ]


def known(contents: Contents) -> Known:
    """From timm's `config.json`; a bare file is read by CLS, as its authors do, where timm takes the mean."""
    words = "pixels of ImageNet's mean and deviation; the class token is read, as by its authors; " + ANY_SIZE
    found = timm.pixels(contents, IMAGENET, words)
    heads = {key: value for key, value in contents.config.get("model_args", {}).items() if key == "num_heads"}
    timm.check_named(contents, NAMED, "vit_small_patch16_dinov3")
    timm.check_arguments(contents, timm.SIZES | timm.TOLD | {"num_reg_tokens", "swiglu_mlp", "swiglu_align_to"})
    pool = POOLS[timm.pool_said(contents) or "token"]
    return replace(found, settings=found.settings | heads | dict(pool=pool))


def writes(model: Any) -> dict[str, str]:
    said = timm.arguments(model)
    kept = ("img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio", "global_pool")
    own = {key: value for key, value in said.items() if key in kept} | {"num_reg_tokens": said["reg_tokens"]}
    own["mlp_ratio"] = model.config["mlp_ratio"]
    gated = isinstance(model.blocks[0].mlp, SwiGLU)
    return timm.config_of(model, f"vit_small{'_plus' if gated else ''}_patch16_dinov3_qkvb", own)


dinov3_timm = Source(
    "dinov3_timm",
    recognises,
    rules,
    known,
    prepare=lambda theirs: with_key_biases(theirs, QUERIES, KEYS),
    finish=lambda theirs: without_key_biases(theirs, KEYS, "timm"),
    settings=rotary_of,
    writes=writes,
)
