"""DeiT, distilled or not, and DeiT III, as their authors wrote them (Touvron et al. 2021; 2022).

timm's names; DeiT III calls LayerScale `gamma_1` and `gamma_2`. Trained on pixels with ImageNet's mean and std.
"""

from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.rules import Rule, rule
from vitral.weights.source import IMAGENET, Source, Tensors, fixed_metadata
from vitral.weights.sources import timm


def recognises(checkpoint: Checkpoint) -> bool:
    names = checkpoint.tensors
    scaled = {"blocks.0.gamma_1", "pos_embed"} <= set(names) and "architecture" not in checkpoint.config
    own = scaled or ("dist_token" in names and not checkpoint.config)
    return timm.is_plain_vit(checkpoint) and (own or timm.is_bare(checkpoint))


def rules(tensors: Tensors) -> list[Rule]:
    return [rule("blocks.{i}.ls{j}.gamma", "blocks.{i}.gamma_{j}"), *timm.rules(tensors)]


metadata = fixed_metadata(
    IMAGENET | dict(crop=0.875),
    "as in DeiT's evaluation",
    resampling="hugging_face",
)
deit = Source("deit", (timm.QKV,), recognises, rules, metadata, absent=("architecture",))
