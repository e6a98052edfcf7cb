"""Hugging Face's ViT, DeiT, MAE, I-JEPA, DINOv2 (with registers too) and SigLIP's image tower, or all of SigLIP.

Files have the names of transformers 4, also when version 5 writes them; version 5 has other names in memory. Both are
read, the first are written. The `config.json` beside the weights states what the weights do not show.
"""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from vitral.base.errors import ConfigError, StoreError
from vitral.base.preprocessing import Preprocessing
from vitral.nn.block import LayerNorm
from vitral.nn.family.head import WideHead
from vitral.nn.family.mlp import SwiGLU, TanhMLP
from vitral.nn.mlp import MLP
from vitral.weights.config_check import check_types, read_size, stated_settings, write_size
from vitral.weights.image_processor import PROCESSOR, RESAMPLE
from vitral.weights.problem_type import KEY, problem_type
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import WITHOUT_BATCH, Rule, rule
from vitral.weights.source import CheckpointMetadata, Source, Tensors
from vitral.weights.sources.dinov2 import fold_cls_position, unfold_cls_position
from vitral.weights.sources.mae import DECODER
from vitral.weights.vit import is_gated

PATCHES = ("embeddings.patch_embeddings.projection.weight", "embeddings.patch_embedding.weight")
WEIGHT = "embeddings.patch_embeddings.weight"  # DINOv3's
NORMS: dict[float, Any] = {1e-6: LayerNorm, 1e-5: partial(LayerNorm, eps=1e-5), 1e-12: partial(LayerNorm, eps=1e-12)}
ACTIVATIONS: dict[str, Any] = {"gelu": MLP, "gelu_pytorch_tanh": TanhMLP}
PIXELS = f"as Vitral prepares images where there is no {PROCESSOR}"
TEXT = "it belongs to SigLIP's text encoder"

# Defaults of transformers' configs for what a file's does not state: epsilon and activation.
DEFAULTS = {"vit": (1e-12, "gelu"), "dinov2": (1e-6, "gelu"), "siglip": (1e-6, "gelu_pytorch_tanh")}
# Each class's norms and MLP in a block, beside our norm1, norm2, mlp.fc1 and mlp.fc2.
VIT_LAYER = ("layernorm_before", "layernorm_after", "intermediate.dense", "output.dense")
DINOV2_LAYER = ("norm1", "norm2", "mlp.fc1", "mlp.fc2")
# Tensors that only one of their classes has: the end of our name and of theirs.
KINDS = {
    "siglip": ("pool.latent", "embeddings.position_embedding.weight"),
    "dinov2": ("ls1.gamma", "layer_scale1.lambda1"),
}
PREFIXES = ("", "vit.", "deit.", "dinov2.", "dinov2_with_registers.", "ijepa.", "swin.", "vision_model.")
# Values of `model_type` that go with these names.
TYPES = ("vit", "deit", "vit_mae", "ijepa", "dinov2", "dinov2_with_registers", "siglip", "siglip_vision_model")


def prefix_of(names: Mapping[str, Any]) -> str:
    """The prefix of `embeddings.`: `vit.`, `dinov2.`, `vision_model.`, or nothing; any other is not transformers'."""
    found = (name.removesuffix(end) for name in names for end in PATCHES if name.endswith(end))
    return next((prefix for prefix in found if prefix in PREFIXES), "")


def recognises(checkpoint: Checkpoint) -> bool:
    return any(name.endswith(PATCHES) for name in checkpoint.tensors) and not any(
        ".layers.0.blocks." in name or "rope" in name for name in checkpoint.tensors
    )


def rules(tensors: Tensors) -> list[Rule]:
    if "patch_embed.proj.weight" not in tensors:
        return [one for kind in (*KINDS, "vit") for one in rules_for_class(prefix_of(tensors), kind)]
    found = rules_for_class(written_prefix(tensors), kind_of(tensors))
    return sorted(found, key=lambda one: not (is_gated(tensors) and "mlp.weights_" in one.theirs[0]))


def kind_of(tensors: Tensors) -> str:
    """Which of their classes has these tensors, under our names or theirs: "siglip", "dinov2", or "vit" with DeiT."""
    return next((kind for kind, ends in KINDS.items() if any(name.endswith(ends) for name in tensors)), "vit")


def class_of(ours: Tensors) -> tuple[str, str]:
    """The `model_type` that can hold our tensors, and how the names of its classes begin."""
    match kind_of(ours):
        case "siglip":
            return "siglip_vision_model", "SiglipVision"
        case "dinov2" if "reg_token" in ours:
            return "dinov2_with_registers", "Dinov2WithRegisters"
        case "dinov2":
            return "dinov2", "Dinov2"
        case _:
            return ("deit", "DeiT") if "dist_token" in ours else ("vit", "ViT")


def written_prefix(ours: Tensors) -> str:
    """The prefix of names in files: in SigLIP always, in other ViTs if there is a classifier beside the ViT."""
    if kind_of(ours) == "siglip":
        return "vision_model."
    return f"{class_of(ours)[0]}." if any(name.startswith("head.") for name in ours) else ""


def rules_for_class(m: str, kind: str) -> list[Rule]:
    """Rules for one of their classes below the prefix m, those of version 4 first."""
    if kind == "siglip":
        layer = f"{m}encoder.layers.{{i}}."
        return [
            rule("patch_embed.proj.{p}", f"{m}embeddings.patch_embedding.{{p}}"),
            rule("pos_embed", f"{m}embeddings.position_embedding.weight", layout=WITHOUT_BATCH),
            rule("norm.{p}", f"{m}post_layernorm.{{p}}"),
            rule("head.{p}", "classifier.{p}"),
            rule("blocks.{i}.norm{j}.{p}", f"{layer}layer_norm{{j}}.{{p}}"),
            rule("blocks.{i}.attn.qkv.{p}", *(f"{layer}self_attn.{part}_proj.{{p}}" for part in "qkv")),
            rule("blocks.{i}.attn.proj.{p}", f"{layer}self_attn.out_proj.{{p}}"),
            rule("blocks.{i}.mlp.fc{j}.{p}", f"{layer}mlp.fc{{j}}.{{p}}"),
            rule("pool.latent", f"{m}head.probe"),
            rule("pool.q.{p}", f"{m}head.attention.q.{{p}}"),
            rule("pool.kv.{p}", f"{m}head.attention.kv.{{p}}"),
            rule("pool.proj.{p}", f"{m}head.attention.out_proj.{{p}}"),
            rule("pool.norm.{p}", f"{m}head.layernorm.{{p}}"),
            rule("pool.mlp.fc{j}.{p}", f"{m}head.mlp.fc{{j}}.{{p}}"),
        ]
    names = DINOV2_LAYER if kind == "dinov2" else VIT_LAYER
    return [
        rule("cls_token", f"{m}embeddings.cls_token"),
        rule("dist_token", f"{m}embeddings.distillation_token"),
        rule("reg_token", f"{m}embeddings.register_tokens"),
        rule("pos_embed", f"{m}embeddings.position_embeddings"),
        rule("patch_embed.proj.{p}", f"{m}embeddings.patch_embeddings.projection.{{p}}"),
        rule("norm.{p}", f"{m}layernorm.{{p}}"),
        rule("head.head.{p}", "cls_classifier.{p}"),
        rule("head.head_dist.{p}", "distillation_classifier.{p}"),
        rule("head.{p}", "classifier.{p}"),
        *layer_rules("blocks.{i}.", f"{m}encoder.layer.{{i}}.", names, "attention.attention"),
        *layer_rules("blocks.{i}.", f"{m}layers.{{i}}.", names, "attention.attention"),
    ]


def layer_rules(ours: str, layer: str, names: tuple[str, str, str, str], attention: str) -> list[Rule]:
    """Rules for the blocks of a ViT or a Swin; `names` are those of both norms and of the MLP's two layers."""
    # The first rule of several for one of our tensors is the one that is written: version 4 stands before version 5.
    ends = ("norm1", "norm2", "mlp.fc1", "mlp.fc2")
    return [
        *(rule(f"{ours}{own}.{{p}}", f"{layer}{name}.{{p}}") for own, name in zip(ends, names)),
        rule(f"{ours}attn.qkv.{{p}}", *(f"{layer}{attention}.{part}.{{p}}" for part in ("query", "key", "value"))),
        rule(f"{ours}attn.qkv.{{p}}", *(f"{layer}attention.{part}_proj.{{p}}" for part in "qkv")),
        rule(f"{ours}attn.proj.{{p}}", f"{layer}attention.output.dense.{{p}}"),
        rule(f"{ours}attn.proj.{{p}}", f"{layer}attention.o_proj.{{p}}"),
        rule(f"{ours}ls{{j}}.gamma", f"{layer}layer_scale{{j}}.lambda1"),
        rule(f"{ours}mlp.fc{{j}}.{{p}}", f"{layer}mlp.fc{{j}}.{{p}}"),
        rule(f"{ours}mlp.fc1.{{p}}", f"{layer}mlp.weights_in.{{p}}"),
        rule(f"{ours}mlp.fc2.{{p}}", f"{layer}mlp.weights_out.{{p}}"),
        rule(f"{ours}mlp.fc1.{{p}}", f"{layer}mlp.gate_proj.{{p}}", f"{layer}mlp.up_proj.{{p}}"),
        rule(f"{ours}mlp.fc2.{{p}}", f"{layer}mlp.down_proj.{{p}}"),
    ]


def prepare(theirs: Tensors) -> Tensors:
    """Split the pool's projection, and fold CLS's position where registers have none."""
    found, m = dict(theirs), prefix_of(theirs)
    for kind in ("weight", "bias"):
        if (fused := found.pop(f"{m}head.attention.in_proj_{kind}", None)) is not None:
            third = len(fused) // 3
            found[f"{m}head.attention.q.{kind}"], found[f"{m}head.attention.kv.{kind}"] = fused[:third], fused[third:]
    places, cls = f"{m}embeddings.position_embeddings", f"{m}embeddings.cls_token"
    if f"{m}embeddings.register_tokens" in found and places in found:
        return fold_cls_position(found, cls, places)
    return found


def finish(theirs: Tensors) -> Tensors:
    """Undo `prepare`; CLS's position, which ours folds into CLS, is zero."""
    found, m = dict(theirs), prefix_of(theirs)
    for kind in ("weight", "bias"):
        parts = [found.pop(f"{m}head.attention.{part}.{kind}", None) for part in ("q", "kv")]
        if parts[0] is not None and parts[1] is not None:
            found[f"{m}head.attention.in_proj_{kind}"] = torch.cat([parts[0], parts[1]])
    if f"{m}embeddings.register_tokens" in found:
        return unfold_cls_position(found, f"{m}embeddings.position_embeddings")
    return found


def check_type(checkpoint: Checkpoint, *types: str) -> None:
    """Raise `StoreError` for another `model_type` in `config.json`: transformers computes something else then."""
    if (found := checkpoint.config.get("model_type")) is not None and found not in types:
        raise StoreError(
            f"config.json has model_type={found!r}, which may compute something else with the same tensors; supported "
            f"with these names: {', '.join(types)}."
        )


def metadata(checkpoint: Checkpoint, types: tuple[str, ...] = TYPES) -> CheckpointMetadata:
    """From `config.json`. Raises `ConfigError` for what no part of Vitral computes."""
    check_type(checkpoint, *types)
    config = checkpoint.config
    # The config of all of SigLIP has those of its two encoders inside.
    config = config.get("vision_config", config) if "hidden_size" not in config else config
    if "classifier.weight" in checkpoint.tensors and any(name.endswith("head.probe") for name in checkpoint.tensors):
        raise ConfigError(
            "SiglipForImageClassification classifies the mean of the patches and ignores its attention pool: it is not "
            "supported."
        )
    check_types(config)
    kind = kind_of(checkpoint.tensors)
    eps, activation = DEFAULTS[kind]
    registers = any(name.endswith("register_tokens") for name in checkpoint.tensors)
    resampling = "timm" if registers else "hugging_face"  # the only one of their classes that antialiases
    if not config:
        words: tuple[str, ...] = (f"LayerNorm's epsilon {eps} and {activation}, as in transformers' {kind}",)
        ends = {name.removeprefix(prefix_of(checkpoint.tensors)) for name in checkpoint.tensors}
        if {"pooler.dense.weight", "classifier.weight"} <= ends | set(checkpoint.tensors):
            words += ("the classifier reads the class token, not the output of the pooler that the file has as well",)
        return CheckpointMetadata(
            dict(norm=NORMS[eps], mlp=ACTIVATIONS[activation]),
            preprocessing_words=PIXELS,
            assumed=words,
            resampling=resampling,
        )
    eps, activation = config.get("layer_norm_eps", eps), config.get("hidden_act", activation)
    gated = config.get("use_swiglu_ffn") or (config.get("use_gated_mlp") and activation == "silu")
    if eps not in NORMS or ((activation not in ACTIVATIONS or config.get("use_gated_mlp")) and not gated):
        raise ConfigError(
            f"config.json has layer_norm_eps={eps} and hidden_act={activation!r}; supported: "
            f"{', '.join(map(str, NORMS))} and {', '.join(ACTIVATIONS)}."
        )
    settings: dict[str, Any] = dict(norm=NORMS[eps], mlp=ACTIVATIONS.get(activation, MLP))
    settings |= {"num_heads": config["num_attention_heads"]} if "num_attention_heads" in config else {}
    ignored = ("intermediate_size",) if kind == "dinov2" else ()  # DINOv2's class ignores it and takes `mlp_ratio`
    return metadata_from_configs(checkpoint, config, settings, resampling, *ignored)


def metadata_from_configs(
    checkpoint: Checkpoint, config: Mapping[str, Any], settings: dict[str, Any], resampling: str, *ignored: str
) -> CheckpointMetadata:
    """`settings`, and what the configs of all their models state: the image size and classes.

    Sizes from all keys but the `ignored` must agree with the tensors.
    """
    size = read_size(config["image_size"]) if config.get("image_size") else None
    labels = checkpoint.config.get("id2label", {})
    classes = tuple(labels[key] for key in sorted(labels, key=int))
    stated = stated_settings(config, *ignored)
    settings = settings | ({"img_size": size} if size else {})
    pixels = {"size": size} if size else {}
    return CheckpointMetadata(settings, pixels, {}, PIXELS, classes, (), resampling, stated)


def integer_mlp_ratio(width: int, hidden: int, gated: bool) -> int:
    """The whole `mlp_ratio` that their DINOv2 takes. Raises `ConfigError` if none gives this hidden width."""
    for ratio in range(1, 65):
        if hidden == ((int(width * ratio * 2 / 3) + 7) // 8 * 8 if gated else width * ratio):
            return ratio
    raise ConfigError(
        f"hf cannot hold an MLP of hidden width {hidden} for width {width} in a model with LayerScale: its "
        "DINOv2 computes the hidden width from a whole mlp_ratio. Formats that can: timm."
    )


def sizes(model: Any) -> dict[str, Any]:
    """The keys that all their ViTs' configs share."""
    config = model.config
    first = model.blocks[0]
    return {
        "hidden_size": config["embed_dim"],
        "num_hidden_layers": config["depth"],
        "num_attention_heads": config["num_heads"],
        "intermediate_size": first.mlp.fc2.in_features,
        "image_size": write_size(config["img_size"]),
        "patch_size": write_size(config["patch_size"]),
        "num_channels": config["in_channels"],
        "layer_norm_eps": next(eps for eps in NORMS if eps == first.norm1.eps),
        "hidden_act": "gelu_pytorch_tanh" if isinstance(first.mlp, TanhMLP) else "gelu",
    }


def preprocessor(model: Any) -> dict[str, str]:
    """`preprocessor_config.json`: how pixels are prepared.

    An image that keeps its aspect ratio is resized by its shorter side, as transformers' `BitImageProcessor` does for
    squares; one that does not, to the height and width, as its `ViTImageProcessor` does.
    """
    own: Preprocessing = model.preprocessing
    height, width = own.size
    written: dict[str, Any] = {
        "image_mean": list(own.mean),
        "image_std": list(own.std),
        "resample": next(number for number, name in RESAMPLE.items() if name == own.interpolation),
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
    }
    if own.crop_mode == "squash" or height != width:
        written |= {"image_processor_type": "ViTImageProcessor", "size": {"height": height, "width": width}}
    else:
        shorter = round(min(height, width) / own.crop)
        written |= {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": shorter}}
        written |= {"do_center_crop": True, "crop_size": {"height": height, "width": width}}
    return {PROCESSOR: json.dumps(written, indent=2) + "\n"}


def config_and_processor(model: Any, config: dict[str, Any]) -> dict[str, str]:
    """The text of `config.json`, with the classes' names if there are any, and of `preprocessor_config.json`."""
    if model.config["num_classes"]:
        labels = dict(enumerate(model.classes))
        config = config | {"id2label": labels, "label2id": {name: index for index, name in labels.items()}}
        config |= {KEY: problem_type(model.record.task)}
    return {"config.json": json.dumps(config, indent=2) + "\n"} | preprocessor(model)


def check_place(model: Any, kind: str) -> None:
    """Raise `ConfigError` for what has names in their files but no place in their class of this kind."""
    ours, config = model.state_dict(), model.config
    registers = "reg_token" in ours
    gated = isinstance(model.blocks[0].mlp, SwiGLU)
    patches, rows = model.grid[0] * model.grid[1], ours["pos_embed"].shape[1] if "pos_embed" in ours else None
    expected = patches if kind == "siglip" or registers else patches + model.num_prefix_tokens
    if kind == "siglip" and config["num_classes"]:
        raise ConfigError("hf cannot hold a SigLIP with a classifier after its attention pool.")
    if kind == "vit" and (registers or gated):
        raise ConfigError(f"hf cannot hold {'register tokens' if registers else 'a gated MLP'} without LayerScale.")
    if rows is not None and rows != expected:
        raise ConfigError(f"hf cannot hold {rows} positions: for this model's tokens it has {expected}.")


def config_files(model: Any) -> dict[str, str]:
    """`config.json` and `preprocessor_config.json`, from which transformers builds the model."""
    ours, config = model.state_dict(), model.config
    kind = kind_of(ours)
    shared = sizes(model) | {"qkv_bias": True}
    check_place(model, kind)
    model_type, name = class_of(ours)
    end, own = "ForImageClassification" if config["num_classes"] else "Model", {}
    if kind == "dinov2":
        gated = is_gated(ours)
        ratio = integer_mlp_ratio(config["embed_dim"], shared["intermediate_size"], gated)
        own = {"mlp_ratio": ratio, "use_swiglu_ffn": gated}
        own |= {"num_register_tokens": config["tokens"]["reg_token"]} if "reg_token" in ours else {}
        if config["num_classes"] and not isinstance(model.head, WideHead):
            raise ConfigError(
                "hf cannot hold this classifier: its DINOv2 classifies CLS and the mean of the patches, concatenated."
            )
    elif name == "DeiT" and config["num_classes"]:
        end += "WithTeacher"
    top = {"model_type": model_type, "architectures": [name + end]}
    return config_and_processor(model, top | shared | own)


hugging_face = Source(
    "hugging_face",
    PATCHES,
    recognises,
    rules,
    metadata,
    dropped={
        "{m}embeddings.mask_token": "it replaces masked patches in pre-training only",
        "{m}pooler.dense.{p}": "a layer for pre-training, which transformers' classifiers do not use",
        "{m}embeddings.position_ids": "a buffer",
        **dict.fromkeys(("decoder.{m}{p}", "decoder.mask_token", "decoder.decoder_pos_embed"), DECODER),
        **dict.fromkeys(("text_model.{m}{p}", "logit_scale", "logit_bias"), TEXT),
    },
    prepare=prepare,
    finish=finish,
    config_files=config_files,
    required=lambda ours: ("pos_embed",) if "pool.latent" in ours else ("pos_embed", "cls_token"),
)
