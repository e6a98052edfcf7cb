"""timm's plain ViT, whose names DeiT, DINO, DINOv2 and MAE share.

The names do not tell whose a file is, and the function is the same; but the pixels they were trained on are not.
"""

import json
from typing import Any

from vitral.weights.architecture import Known
from vitral.weights.reading import Contents
from vitral.weights.rules import Rule, rule
from vitral.weights.source import Source, Tensors

LAYER = (
    *(f"norm{which}.{{p}}" for which in (1, 2)),
    *(f"attn.{part}.{{p}}" for part in ("qkv", "proj", "q_norm", "k_norm")),
    *(f"mlp.{part}.{{p}}" for part in ("fc1", "fc2")),
    *(f"ls{which}.gamma" for which in (1, 2)),
)
POOL = ("latent", "q.{p}", "kv.{p}", "proj.{p}", "norm.{p}", "mlp.fc1.{p}", "mlp.fc2.{p}")


def rules(tensors: Tensors) -> list[Rule]:
    distilled = {"head_dist.weight", "head.head_dist.weight"} & set(tensors)
    heads = [("head.head", "head"), ("head.head_dist", "head_dist")] if distilled else [("head", "head")]
    asks = {"attn_pool.latent", "pool.latent"} & set(tensors)
    pool = (
        [rule(f"pool.{part}", f"attn_pool.{part}") for part in POOL] if asks else [rule("pool.norm.{p}", "fc_norm.{p}")]
    )
    return [
        *(rule(name) for name in ("cls_token", "dist_token", "reg_token", "pos_embed", "patch_embed.proj.{p}")),
        *(rule(f"blocks.{{i}}.{name}") for name in LAYER),
        rule("norm.{p}"),
        *pool,
        *(rule(f"{ours}.{{p}}", f"{theirs}.{{p}}") for ours, theirs in heads),
    ]


def plain(contents: Contents) -> bool:
    """A ViT with these names."""
    return {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight"} <= set(contents.tensors)


def bare(contents: Contents) -> bool:
    """One that says no more of where it is from: no config, no tensors that only one publisher has."""
    own = ("mask_token", "dist_token", "register_tokens", "decoder_pos_embed", "blocks.0.gamma_1")
    return plain(contents) and not contents.config and not any(name in contents.tensors for name in own)


def recognises(contents: Contents) -> bool:
    return bare(contents) or (plain(contents) and "pretrained_cfg" in contents.config)


def known(contents: Contents) -> Known:
    """From timm's own `config.json`, which carries `pretrained_cfg`."""
    said = contents.config.get("pretrained_cfg", {})
    size, crop = said.get("input_size"), said.get("crop_pct")
    pixels: dict[str, Any] = {name: tuple(said[name]) for name in ("mean", "std") if name in said}
    if said.get("interpolation") in ("nearest", "bilinear", "bicubic"):
        pixels["interpolation"] = said["interpolation"]
    if crop is not None:
        pixels["crop"] = min(crop, 1.0)
    return Known(
        settings=dict(img_size=tuple(size[1:])) if size else {},
        preprocessing=pixels,
        classes=tuple(contents.config.get("label_names", ())),
        assumed=() if pixels else ("pixels of mean and deviation 0.5, as timm's AugReg checkpoints",),
    )


def writes(model: Any) -> dict[str, str]:
    """timm's `config.json`."""
    seen = model.preprocessing
    config = {
        "architecture": getattr(model, "provenance", {}).get("architecture", "vitral"),
        "num_classes": model.config["num_classes"],
        "label_names": list(model.classes),
        "pretrained_cfg": {
            "input_size": [model.config["in_channels"], *seen.size],
            "mean": list(seen.mean),
            "std": list(seen.std),
            "crop_pct": seen.crop,
            "interpolation": seen.interpolation,
        },
    }
    return {"config.json": json.dumps(config, indent=2) + "\n"}


timm = Source("timm", recognises, rules, known, writes=writes)
