"""DINOv3 as Hugging Face saves it, with its `config.json`: blocks are `layer.3` on disk, `model.layer.3` in memory."""

import json
from dataclasses import replace
from typing import Any

from vitral.base.errors import ConfigError
from vitral.nn.family.rope import RotaryAttention
from vitral.weights.architecture import IMAGENET, Known, is_gated
from vitral.weights.reading import Contents
from vitral.weights.rotary import ANY_SIZE, MASKED, biases, rotary_of, with_key_biases, without_key_biases
from vitral.weights.rules import Rule, rule
from vitral.weights.source import Source, Tensors
from vitral.weights.sources import hugging_face

QUERIES, KEYS = "attention.q_proj.bias", "attention.k_proj.bias"
TYPES = ("dinov3_vit",)


def recognises(contents: Contents) -> bool:
    names = contents.tensors
    return "embeddings.patch_embeddings.weight" in names and any(
        name.endswith("layer_scale1.lambda1") for name in names
    )


def rules(tensors: Tensors) -> list[Rule]:
    found = [
        rule("cls_token", "embeddings.cls_token"),
        rule("reg_token", "embeddings.register_tokens"),
        rule("patch_embed.proj.{p}", "embeddings.patch_embeddings.{p}"),
        rule("norm.{p}"),
    ]
    gated = is_gated(tensors) or any("gate_proj" in name for name in tensors)
    inner = ("gate_proj", "up_proj") if gated else ("up_proj",)
    for layer in ("layer.{i}.", "model.layer.{i}."):
        qkv = [f"{layer}attention.{part}_proj" for part in "qkv"]
        found += [
            *(rule(f"blocks.{{i}}.norm{which}.{{p}}", f"{layer}norm{which}.{{p}}") for which in (1, 2)),
            *(rule(f"blocks.{{i}}.ls{which}.gamma", f"{layer}layer_scale{which}.lambda1") for which in (1, 2)),
            rule("blocks.{i}.attn.qkv.weight", *(f"{part}.weight" for part in qkv)),
            biases(*(f"{part}.bias" for part in qkv)),
            rule("blocks.{i}.attn.proj.{p}", f"{layer}attention.o_proj.{{p}}"),
            rule("blocks.{i}.mlp.fc1.{p}", *(f"{layer}mlp.{part}.{{p}}" for part in inner)),
            rule("blocks.{i}.mlp.fc2.{p}", f"{layer}mlp.down_proj.{{p}}"),
        ]
    return found


def known(contents: Contents) -> Known:
    """From the configs beside the file. Raises `ConfigError` for positions of another base."""
    said = contents.config
    if (base := said.get("rope_theta", RotaryAttention.base)) != RotaryAttention.base:
        raise ConfigError(
            f"config.json asks for rope_theta={base}; Vitral's rotary positions have {RotaryAttention.base}."
        )
    if not said:
        return Known(preprocessing=IMAGENET, assumed=("pixels of ImageNet's mean and deviation", ANY_SIZE))
    found = hugging_face.known(contents, TYPES)
    found = replace(found, resampling="timm")  # its positions are rotary, of any grid
    if not found.preprocessing:
        return replace(found, preprocessing=IMAGENET, assumed=("pixels of ImageNet's mean and deviation",))
    return found


def writes(model: Any) -> dict[str, str]:
    """`config.json` and `preprocessor_config.json`, from which transformers builds the model."""
    ours, config = model.state_dict(), model.config
    if config["num_classes"]:
        raise ConfigError("hf has no DINOv3 with a head: its classifier has no place. What can hold it: timm.")
    said = {
        "model_type": "dinov3_vit",
        "architectures": ["DINOv3ViTModel"],
        **hugging_face.sizes(model),
        "num_register_tokens": config["tokens"].get("reg_token", 0),
        "use_gated_mlp": is_gated(ours),
        "rope_theta": RotaryAttention.base,
        "query_bias": True,
        "value_bias": True,
        "key_bias": False,
    }
    if said["use_gated_mlp"]:
        said["hidden_act"] = "silu"
    return {"config.json": json.dumps(said, indent=2) + "\n"} | hugging_face.preprocessor(model)


dinov3_hugging_face = Source(
    "dinov3_hugging_face",
    recognises,
    rules,
    known,
    dropped={"embeddings.mask_token": MASKED},
    prepare=lambda theirs: with_key_biases(theirs, QUERIES, KEYS),
    finish=lambda theirs: without_key_biases(theirs, KEYS, "hf"),
    settings=rotary_of,
    writes=writes,
)
