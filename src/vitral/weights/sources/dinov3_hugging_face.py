"""DINOv3 as Hugging Face saves it, with its `config.json`: blocks are `layer.3` on disk, `model.layer.3` in memory."""

from dataclasses import replace
from typing import Any

from vitral.base.errors import ConfigError
from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import Rule, rule
from vitral.weights.source import IMAGENET, CheckpointMetadata, Source, Tensors
from vitral.weights.sources import dinov3, hugging_face
from vitral.weights.sources.dinov3 import ANY_SIZE, MASKED, PUBLISHED_BASE
from vitral.weights.vit import is_gated

QUERIES, KEYS = "attention.q_proj.bias", "attention.k_proj.bias"
TYPES = ("dinov3_vit",)


def recognises(checkpoint: Checkpoint) -> bool:
    names = checkpoint.tensors
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
        found += [
            rule("blocks.{i}.norm{j}.{p}", f"{layer}norm{{j}}.{{p}}"),
            rule("blocks.{i}.ls{j}.gamma", f"{layer}layer_scale{{j}}.lambda1"),
            rule("blocks.{i}.attn.qkv.{p}", *(f"{layer}attention.{part}_proj.{{p}}" for part in "qkv")),
            rule("blocks.{i}.attn.proj.{p}", f"{layer}attention.o_proj.{{p}}"),
            rule("blocks.{i}.mlp.fc1.{p}", *(f"{layer}mlp.{part}.{{p}}" for part in inner)),
            rule("blocks.{i}.mlp.fc2.{p}", f"{layer}mlp.down_proj.{{p}}"),
        ]
    return found


def metadata(checkpoint: Checkpoint) -> CheckpointMetadata:
    """From the configs beside the file. Raises `ConfigError` for rotary positions of another base."""
    config = checkpoint.config
    if (base := config.get("rope_theta", PUBLISHED_BASE)) != PUBLISHED_BASE:
        raise ConfigError(f"config.json has rope_theta={base}; supported: {PUBLISHED_BASE}.")
    pixels: dict[str, Any] = dict(preprocessing=IMAGENET, preprocessing_words="as in DINOv3's code")
    if not config:
        return CheckpointMetadata(**pixels, assumed=(ANY_SIZE,))
    # its positions are rotary, of any grid
    return replace(hugging_face.metadata(checkpoint, TYPES), resampling="timm", **pixels)


def config_files(model: Any) -> dict[str, str]:
    """`config.json` and `preprocessor_config.json`, from which transformers builds the model."""
    ours, config = model.state_dict(), model.config
    if config["num_classes"]:
        raise ConfigError("hf cannot hold a DINOv3 with a classifier. Formats that can: timm.")
    written = {
        "model_type": "dinov3_vit",
        "architectures": ["DINOv3ViTModel"],
        **hugging_face.sizes(model),
        "num_register_tokens": config["tokens"].get("reg_token", 0),
        "use_gated_mlp": is_gated(ours),
        "rope_theta": model.blocks[0].attn.base,
        "query_bias": True,
        "value_bias": True,
        "key_bias": False,
    }
    if written["use_gated_mlp"]:
        written["hidden_act"] = "silu"
    return hugging_face.config_and_processor(model, written)


dinov3_hugging_face = Source(
    "dinov3_hugging_face",
    ("layer_scale1.lambda1",),
    recognises,
    rules,
    metadata,
    dropped={"embeddings.mask_token": MASKED},
    prepare=lambda theirs: dinov3.add_key_biases(theirs, QUERIES, KEYS),
    finish=lambda theirs: dinov3.drop_key_biases(theirs, KEYS, "hf"),
    settings=dinov3.rotary_settings,
    config_files=config_files,
)
