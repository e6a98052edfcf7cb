"""timm's plain ViT, whose names DeiT, DINO, DINOv2 and MAE share.

The names do not tell whose a file is, and the function is the same; but the pixels they were trained on are not.
"""

import json
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from vitral.base.errors import ConfigError, StoreError
from vitral.nn.family.mlp import SwiGLU, TanhMLP
from vitral.nn.family.pool import AttentionPool, MeanPool, NormedMeanPool
from vitral.nn.family.position import PatchPosition, SinCosPosition
from vitral.nn.patch import pair
from vitral.weights.architecture import HALVES, Known
from vitral.weights.claims import checked, claimed
from vitral.weights.reading import Contents
from vitral.weights.rules import Rule, rule
from vitral.weights.source import Source, Tensors

LAYER = (
    *(f"norm{which}.{{p}}" for which in (1, 2)),
    *(f"attn.{part}.{{p}}" for part in ("qkv", "proj", "q_norm", "k_norm")),
    *(f"mlp.{part}.{{p}}" for part in ("fc1", "fc2")),
    *(f"ls{which}.gamma" for which in (1, 2)),
)
POOLED = {"fc_norm.weight", "attn_pool.latent"}  # tensors that say how the tokens are read

# What timm's plain ViTs are called whose function their tensors and arguments say; and those, of SigLIP 2, whose name
# alone says that they take the GELU by tanh.
NAMED = re.compile(
    r"(vit|deit3?|flexivit|eva)_"
    r"(tiny|wee|little|small|mediumd?|betwixt|base|large|huge|giant|giantopt|gigantic|so150m2?|so400m)"
    r"(_(distilled|patch\d+|plus|36x1|reg\d+|gap|map|siglip|dinov2|tipsv2|miil|dino|sam|in2[12](k|ft1k)|\d+))*"
)
TANH = re.compile(
    r"vit_((so400m_patch16|giantopt_patch16|base_patch32)_siglip(_gap)?_\d+|large_patch16_siglip(_gap)?_512)"
)
TRAINED = {"num_classes", "weight_init", "fix_init"} | {
    f"{what}drop_rate" for what in ("", "pos_", "patch_", "proj_", "attn_")
}  # arguments that say how a model is trained
SIZES = {"img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio", "dynamic_img_size"}
TOLD = {"class_token", "reg_tokens", "no_embed_class", "pos_embed", "init_values", "qkv_bias", "qk_norm", "proj_bias"}
TOLD |= {"global_pool", "fc_norm", "final_norm", "pre_norm", "scale_attn_norm", "scale_mlp_norm", "embed_norm_layer"}
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
    rotary = "pos_embed" not in contents.tensors and "blocks.0.gamma_1" in contents.tensors
    return bare(contents) or (plain(contents) and "pretrained_cfg" in contents.config and not rotary)


def pixels(contents: Contents, bare: dict[str, Any], words: str) -> Known:
    """Pixels, classes and image size of timm's own `config.json`; without one, those of bare files, in words."""
    said = contents.config.get("pretrained_cfg", {})
    size, crop = said.get("input_size", (0, 0, 0))[1:], said.get("crop_pct")
    arguments = checked(contents.config.get("model_args", {}))
    size = arguments.get("img_size") or size  # a model for any size says its images' there
    found: dict[str, Any] = {name: tuple(said[name]) for name in ("mean", "std") if name in said}
    if said.get("interpolation") in ("nearest", "bilinear", "bicubic"):
        found["interpolation"] = said["interpolation"]
    if crop is not None:
        found["crop"] = min(crop, 1.0)
    if said.get("crop_mode") in ("center", "squash"):
        found["crop_mode"] = said["crop_mode"]
    return Known(
        settings=dict(img_size=pair(size)) if size != (0, 0) else {},
        preprocessing=found or bare,
        classes=tuple(contents.config.get("label_names") or ()),
        assumed=() if found else (words,),
        claims=claimed(arguments, "window_size"),  # which timm cuts to its maps
    )


def known(contents: Contents) -> Known:
    """From timm's `config.json`, with the arguments that it builds the model from."""
    found = pixels(contents, HALVES, "pixels of mean and deviation 0.5, as timm's AugReg checkpoints")
    if not contents.config and "cls_token" in contents.tensors and not contents.tensors.keys() & POOLED:
        found = replace(found, assumed=(*found.assumed, "the class token is read, and not the mean of the patches"))
    arguments = contents.config.get("model_args", {})
    settings = found.settings | {key: arguments[key] for key in ("num_heads",) if key in arguments}
    check_named(contents, NAMED, "vit_base_patch16_224")
    check_arguments(contents, SIZES | TOLD | {"dynamic_img_pad"})
    if arguments.get("act_layer", TANH.fullmatch(architecture_of(contents)) and "gelu_tanh") == "gelu_tanh":
        settings["mlp"] = TanhMLP
    if pool_said(contents) == "avg" and "fc_norm.weight" not in contents.tensors:
        settings["pool"] = MeanPool
    return replace(found, settings=settings)


def architecture_of(contents: Contents) -> str:
    """timm's name of the model, without the tag of its weights; empty if nothing says it."""
    return str(contents.config.get("architecture") or "").partition(".")[0]


def pool_said(contents: Contents) -> Any:
    """timm's word for how the tokens are read, where it says one."""
    return contents.config.get("model_args", {}).get("global_pool", contents.config.get("global_pool"))


def check_named(contents: Contents, names: re.Pattern[str], as_in: str) -> None:
    """Raise `StoreError` if `config.json` calls the model something else: the same tensors are another function then.

    timm's `vit_base_patch16_rpn_224` has every tensor of a plain ViT, and norms after each part.
    """
    name = architecture_of(contents)
    if name and not names.fullmatch(name):
        raise StoreError(
            f"config.json names the architecture {name!r}, which may compute something else with the same tensors; "
            f"Vitral knows those called as {as_in}."
        )


def check_arguments(contents: Contents, able: Collection[str]) -> None:
    """Raise `ConfigError` for what timm can be told to compute and Vitral has no part for.

    `able` are the arguments that the tensors tell as well, or that change nothing.
    """
    said, names = contents.config.get("model_args", {}), contents.tensors
    pool, normed = pool_said(contents), "fc_norm.weight" in names
    reads = {None: True, "token": not normed, "avg": True, "map": "attn_pool.latent" in names}
    if not reads.get(pool, False):
        raise ConfigError(
            f"config.json says global_pool={pool!r}{' and fc_norm' if normed else ''}; Vitral reads the class token "
            "('token'), the mean of the patches ('avg') or attention over them ('map')."
        )
    known = {"act_layer": (None, "gelu", "gelu_tanh")} | dict.fromkeys(
        ("pool_include_prefix", "always_partition"), (None, False)
    )
    for key, value in said.items():
        if key not in TRAINED and key not in able and value not in known.get(key, (None,)):
            raise ConfigError(f"config.json says {key}={value!r}, which Vitral has no part for.")
    if "dist_token" in names and "head_dist.weight" not in names:
        raise ConfigError("A distilled model without its heads is read as the mean of two tokens, which is not done.")


def arguments(model: Any) -> dict[str, Any]:
    """What timm's `VisionTransformer` is built from."""
    config, first = model.config, model.blocks[0]
    tokens, position = config["tokens"], model.position
    said = {
        "img_size": list(config["img_size"]),
        "patch_size": config["patch_size"][0] if len({*config["patch_size"]}) == 1 else list(config["patch_size"]),
        "embed_dim": config["embed_dim"],
        "depth": config["depth"],
        "num_heads": config["num_heads"],
        "mlp_ratio": config["mlp_ratio"],
    }
    if config["in_channels"] != 3:
        said["in_chans"] = config["in_channels"]
    if isinstance(first.mlp, SwiGLU):
        said["mlp_ratio"] *= 2  # timm counts both halves
    if isinstance(first.mlp, TanhMLP):
        said["act_layer"] = "gelu_tanh"
    if "dist_token" not in tokens:
        said |= {"class_token": "cls_token" in tokens, "reg_tokens": tokens.get("reg_token", 0)}
        said |= {"no_embed_class": isinstance(position, PatchPosition), "global_pool": pool_of(model)}
        said |= {
            "pos_embed": "none" if model.pos_embed is None and not isinstance(position, SinCosPosition) else "learn"
        }
        said |= {"qk_norm": hasattr(first.attn, "q_norm"), "fc_norm": isinstance(model.pool, NormedMeanPool)}
        said |= {"init_values": 1e-5 if hasattr(first, "ls1") else 0}
    return said


def pool_of(model: Any) -> str:
    """timm's word for how the tokens are read."""
    words = {MeanPool: "avg", AttentionPool: "map"}
    return next((word for pool, word in words.items() if isinstance(model.pool, pool)), "token")


def architecture(model: Any) -> str:
    """A name of timm's whose class has these parts; the sizes are in the arguments."""
    if "dist_token" in model.config["tokens"]:
        return "deit_base_distilled_patch16_224"
    return "vit_giant_patch14_dinov2" if isinstance(model.blocks[0].mlp, SwiGLU) else "vit_base_patch16_224"


def config_of(
    model: Any, architecture: str, arguments: dict[str, Any], classifier: str | list[str] = "head"
) -> dict[str, str]:
    """timm's `config.json`, from which `timm.create_model("local-dir:FOLDER")` builds the model."""
    seen = model.preprocessing
    config = {
        "architecture": architecture,
        "num_classes": model.config["num_classes"],
        "num_features": arguments["embed_dim"],
        "label_names": list(model.classes),
        **({"global_pool": arguments["global_pool"]} if "global_pool" in arguments else {}),
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [model.config["in_channels"], *seen.size],
            "mean": list(seen.mean),
            "std": list(seen.std),
            "crop_pct": seen.crop,
            "crop_mode": seen.crop_mode,
            "interpolation": seen.interpolation,
            "num_classes": model.config["num_classes"],
            "fixed_input_size": True,
            "first_conv": "patch_embed.proj",
            "classifier": classifier,
        },
    }
    return {"config.json": json.dumps(config, indent=2) + "\n"}


def writes(model: Any) -> dict[str, str]:
    classifier: str | list[str] = ["head", "head_dist"] if "dist_token" in model.config["tokens"] else "head"
    return config_of(model, architecture(model), arguments(model), classifier)


timm = Source("timm", recognises, rules, known, writes=writes)
