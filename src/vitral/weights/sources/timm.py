"""timm's plain ViT, whose names DeiT, DINO, DINOv2 and MAE share.

The names do not identify the publisher. The function is the same for all; the preprocessing is not.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from vitral.base.errors import ConfigError, StoreError
from vitral.nn.family.mlp import SwiGLU, TanhMLP
from vitral.nn.family.pool import AttentionPool, MeanPool, NormedMeanPool
from vitral.nn.family.position import PatchPosition, SinCosPosition
from vitral.weights.config_check import check_types, read_size, stated_settings, write_size
from vitral.weights.pixels import check_plain, is_of_timms_script, plain_statement
from vitral.weights.problem_type import KEY, problem_type
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import Rule, rule
from vitral.weights.source import HALVES, IMAGENET, CheckpointMetadata, Source, Tensors

QKV = "blocks.0.attn.qkv.weight"
ATTENTION = tuple(f"attn.{part}.{{p}}" for part in ("qkv", "proj", "q_norm", "k_norm"))
LAYER = ("norm{j}.{p}", *ATTENTION, "mlp.fc{j}.{p}", "ls{j}.gamma")
POOLED = {"fc_norm.weight", "attn_pool.latent"}  # tensors that show what the head reads

# Names of timm's ViTs whose function follows from their tensors and arguments; and those of SigLIP 2, where the name
# alone shows that the GELU is approximated by tanh.
SUPPORTED_NAMES = re.compile(
    r"(vit|deit3?|flexivit|eva)_"
    r"(tiny|wee|little|small|mediumd?|betwixt|base|large|huge|giant|giantopt|gigantic|so150m2?|so400m)"
    r"(_(distilled|patch\d+|plus|36x1|reg\d+|gap|map|siglip|dinov2|tipsv2|miil|dino|sam|in2[12](k|ft1k)|\d+))*"
)
TANH = re.compile(
    r"vit_((so400m_patch16|giantopt_patch16|base_patch32)_siglip(_gap)?_\d+|large_patch16_siglip(_gap)?_512)"
)
TRAINING_ONLY = {"num_classes", "weight_init", "fix_init"} | {
    f"{what}drop_rate" for what in ("", "pos_", "patch_", "proj_", "attn_")
}  # arguments that matter in training only
SIZES = {"img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio", "dynamic_img_size"}
# Arguments that the tensors show as well: of tokens and positions, of blocks, and of the head.
FROM_TENSORS = {"class_token", "reg_tokens", "no_embed_class", "pos_embed", "pre_norm", "embed_norm_layer"}
FROM_TENSORS |= {"init_values", "qkv_bias", "qk_norm", "proj_bias", "scale_attn_norm", "scale_mlp_norm"}
FROM_TENSORS |= {"global_pool", "fc_norm", "final_norm"}
POOL = ("latent", "q.{p}", "kv.{p}", "proj.{p}", "norm.{p}", "mlp.fc{j}.{p}")


def rules(tensors: Tensors) -> list[Rule]:
    distilled = {"head_dist.weight", "head.head_dist.weight"} & set(tensors)
    hidden = {"pre_logits.fc.weight", "head.2.weight"} & set(tensors)  # with tanh behind it, as timm built it until 0.6
    heads = [("head.head", "head"), ("head.head_dist", "head_dist")] if distilled else [("head", "head")]
    heads = [("head.0", "pre_logits.fc"), ("head.2", "head")] if hidden else heads
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


def is_plain_vit(checkpoint: Checkpoint) -> bool:
    """Whether it is a ViT with timm's names."""
    return {QKV, "patch_embed.proj.weight"} <= set(checkpoint.tensors)


def is_bare(checkpoint: Checkpoint) -> bool:
    """Whether nothing shows the publisher: no config, and no tensors that only one of them has."""
    publishers_own = {"mask_token", "dist_token", "register_tokens", "decoder_pos_embed", "blocks.0.gamma_1"}
    return is_plain_vit(checkpoint) and not checkpoint.config and publishers_own.isdisjoint(checkpoint.tensors)


def recognises(checkpoint: Checkpoint) -> bool:
    rotary = "pos_embed" not in checkpoint.tensors and "blocks.0.gamma_1" in checkpoint.tensors
    return is_bare(checkpoint) or (is_plain_vit(checkpoint) and is_timms(checkpoint.config) and not rotary)


def pixel_metadata(checkpoint: Checkpoint, default: dict[str, Any], words: str) -> CheckpointMetadata:
    """Preprocessing, classes and image size from timm's `config.json`; `default` stands, in `words`, for the rest."""
    arguments, stated = check_types(checkpoint.config.get("model_args", {})), pretrained_config(checkpoint.config)
    if not isinstance(size := stated.get("input_size", [0, 0, 0]), list) or len(size) != 3:
        raise StoreError(f"config.json has input_size={size!r}; it must be a list of channels, height and width.")
    check_plain(stated, "config.json")
    pixels = dict(plain_statement(stated, "config.json").values)
    # a model for any size states its size among its arguments
    size = read_size(arguments["img_size"]) if arguments.get("img_size") else pixels.get("size")
    pixels |= {"size": size} if size else {}
    if stated:  # what timm's config leaves open is as its class for such configs has it
        default, words = IMAGENET | dict(crop=0.875), "as timm's configs by default"
    return CheckpointMetadata(
        settings={"img_size": size} if size else {},
        pixels=pixels,
        preprocessing=default,
        preprocessing_words=words,
        classes=tuple(checkpoint.config.get("label_names") or ()),
        stated=stated_settings(arguments, "window_size"),  # timm cuts windows to its maps
    )


def pretrained_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `config.json` states of a model's images: apart, or as timm wrote it until 2022, at the top."""
    found: Mapping[str, Any] = config.get("pretrained_cfg", config)
    return found


def is_timms(config: Mapping[str, Any]) -> bool:
    """Whether timm wrote a `config.json`, or transformers around a model of timm's."""
    return "pretrained_cfg" in config or {"architecture", "num_classes"} <= set(config)


def metadata(checkpoint: Checkpoint) -> CheckpointMetadata:
    """From timm's `config.json`, with the arguments from which timm builds the model."""
    found = pixel_metadata(checkpoint, HALVES, "as in timm's AugReg checkpoints")
    if not checkpoint.config and "cls_token" in checkpoint.tensors and not checkpoint.tensors.keys() & POOLED:
        found = replace(found, assumed=(*found.assumed, "the head reads the class token, not the mean of the patches"))
    arguments = checkpoint.config.get("model_args", {})
    settings = found.settings | {key: arguments[key] for key in ("num_heads",) if key in arguments}
    if any(name.startswith("pre_logits.") for name in checkpoint.tensors):
        words = "pre_logits is a linear layer with tanh before the head, as timm built it until 0.6; timm drops it now"
        found = replace(found, assumed=(*found.assumed, words))
    check_architecture_name(checkpoint, SUPPORTED_NAMES, "vit_base_patch16_224")
    check_arguments(checkpoint, SIZES | FROM_TENSORS | {"dynamic_img_pad"})
    if arguments.get("act_layer", TANH.fullmatch(stated_architecture(checkpoint)) and "gelu_tanh") == "gelu_tanh":
        settings["mlp"] = TanhMLP
    if stated_pool(checkpoint) == "avg" and "fc_norm.weight" not in checkpoint.tensors:
        settings["pool"] = MeanPool
    return replace(found, settings=settings)


def stated_architecture(checkpoint: Checkpoint) -> str:
    """timm's name of the model, without the tag of its weights, or that its script was given; empty if none."""
    is_trained = is_of_timms_script(checkpoint.arguments)
    trained = checkpoint.arguments["the checkpoint"]["arch"] if is_trained else ""
    return str(checkpoint.config.get("architecture") or trained or "").partition(".")[0]


def stating_file(checkpoint: Checkpoint) -> str:
    """In words, what states the architecture and its arguments."""
    return "config.json" if checkpoint.config else "The checkpoint's training"


def stated_pool(checkpoint: Checkpoint) -> Any:
    """timm's `global_pool`: what the head reads; None if it is not stated."""
    return checkpoint.config.get("model_args", {}).get("global_pool", checkpoint.config.get("global_pool"))


def check_architecture_name(checkpoint: Checkpoint, names: re.Pattern[str], example: str) -> None:
    """Raise `StoreError` if `config.json` names another architecture: the same tensors are another function then.

    timm's `vit_base_patch16_rpn_224` has every tensor of a plain ViT, and normalises after each part.
    """
    name = stated_architecture(checkpoint)
    if name and not names.fullmatch(name):
        raise StoreError(
            f"{stating_file(checkpoint)} names the architecture {name!r}, which may compute something else with the "
            f"same tensors; supported: names such as {example}."
        )


def check_arguments(checkpoint: Checkpoint, harmless: Collection[str]) -> None:
    """Raise `ConfigError` for an argument that makes timm compute what no part of Vitral does.

    `harmless` are the arguments that the tensors show as well, or that change nothing.
    """
    names = checkpoint.tensors
    given = checkpoint.config.get("model_args") or checkpoint.arguments.get("the checkpoint's args.model_kwargs", {})
    pool, normed = stated_pool(checkpoint), "fc_norm.weight" in names
    reads = {None: True, "token": not normed, "avg": True, "map": "attn_pool.latent" in names}
    if not reads.get(pool, False):
        raise ConfigError(
            f"{stating_file(checkpoint)} has global_pool={pool!r}{' and fc_norm' if normed else ''}; supported: the "
            "class token ('token'), the mean of the patches ('avg') or attention over them ('map')."
        )
    supported: dict[str, Any] = {"act_layer": (None, "gelu", "gelu_tanh")}
    supported |= dict.fromkeys(("pool_include_prefix", "always_partition"), (None, False))
    for key, value in given.items():
        if key not in TRAINING_ONLY and key not in harmless and value not in supported.get(key, (None,)):
            raise ConfigError(f"{stating_file(checkpoint)} has {key}={value!r}, which Vitral does not support.")
    if "dist_token" in names and "head_dist.weight" not in names:
        raise ConfigError("A distilled model without its heads returns the mean of two tokens, which is not supported.")


def arguments(model: Any) -> dict[str, Any]:
    """The arguments from which timm's `VisionTransformer` is built."""
    config, first = model.config, model.blocks[0]
    tokens, position = config["tokens"], model.position
    found: dict[str, Any] = {"img_size": list(config["img_size"]), "patch_size": write_size(config["patch_size"])}
    found |= {name: config[name] for name in ("embed_dim", "depth", "num_heads", "mlp_ratio")}
    if config["in_channels"] != 3:
        found["in_chans"] = config["in_channels"]
    if isinstance(first.mlp, SwiGLU):
        found["mlp_ratio"] *= 2  # timm's ratio counts both halves
    if isinstance(first.mlp, TanhMLP):
        found["act_layer"] = "gelu_tanh"
    if "dist_token" not in tokens:
        found |= {"class_token": "cls_token" in tokens, "reg_tokens": tokens.get("reg_token", 0)}
        found |= {"no_embed_class": isinstance(position, PatchPosition), "global_pool": pool_of(model)}
        found |= {
            "pos_embed": "none" if model.pos_embed is None and not isinstance(position, SinCosPosition) else "learn"
        }
        found |= {"qk_norm": hasattr(first.attn, "q_norm"), "fc_norm": isinstance(model.pool, NormedMeanPool)}
        found |= {"init_values": 1e-5 if hasattr(first, "ls1") else 0}
    return found


def pool_of(model: Any) -> str:
    """timm's `global_pool` for the model's pool."""
    words = {MeanPool: "avg", AttentionPool: "map"}
    return next((word for pool, word in words.items() if isinstance(model.pool, pool)), "token")


def architecture(model: Any) -> str:
    """A name in timm whose class has these parts; the sizes are in the arguments."""
    if "dist_token" in model.config["tokens"]:
        return "deit_base_distilled_patch16_224"
    return "vit_giant_patch14_dinov2" if isinstance(model.blocks[0].mlp, SwiGLU) else "vit_base_patch16_224"


def config_of(
    model: Any, architecture: str, arguments: dict[str, Any], classifier: str | list[str] = "head"
) -> dict[str, str]:
    """timm's `config.json`, from which `timm.create_model("local-dir:FOLDER")` builds the model."""
    own = model.preprocessing
    config = {
        "architecture": architecture,
        "num_classes": model.config["num_classes"],
        "num_features": arguments["embed_dim"],
        "label_names": list(model.classes),
        # A key of transformers', which timm ignores; timm's own config has none for it.
        **({} if model.record.task == "one class" else {KEY: problem_type(model.record.task)}),
        **({"global_pool": arguments["global_pool"]} if "global_pool" in arguments else {}),
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [model.config["in_channels"], *own.size],
            "mean": list(own.mean),
            "std": list(own.std),
            "crop_pct": own.crop,
            "crop_mode": own.crop_mode,
            "interpolation": own.interpolation,
            "num_classes": model.config["num_classes"],
            "fixed_input_size": True,
            "first_conv": "patch_embed.proj",
            "classifier": classifier,
        },
    }
    return {"config.json": json.dumps(config, indent=2) + "\n"}


def config_files(model: Any) -> dict[str, str]:
    classifier: str | list[str] = ["head", "head_dist"] if "dist_token" in model.config["tokens"] else "head"
    return config_of(model, architecture(model), arguments(model), classifier)


timm = Source("timm", (QKV,), recognises, rules, metadata, config_files=config_files)
