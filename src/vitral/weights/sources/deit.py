"""DeiT, distilled or not, and DeiT III, as their authors wrote them (Touvron et al. 2021; 2022).

timm's names; DeiT III calls LayerScale `gamma_1` and `gamma_2`. Trained on pixels with ImageNet's mean and std.
"""

from vitral.weights.checkpoint_file import Checkpoint
from vitral.weights.rules import Rule, rule
from vitral.weights.source import IMAGENET, CheckpointMetadata, Source, Tensors
from vitral.weights.sources.timm import QKV, is_bare, is_plain_vit
from vitral.weights.sources.timm import rules as timm_rules


def recognises(checkpoint: Checkpoint) -> bool:
    names = checkpoint.tensors
    scaled = {"blocks.0.gamma_1", "pos_embed"} <= set(names) and "architecture" not in checkpoint.config
    own = scaled or ("dist_token" in names and not checkpoint.config)
    return is_plain_vit(checkpoint) and (own or is_bare(checkpoint))


def rules(tensors: Tensors) -> list[Rule]:
    scales = [rule(f"blocks.{{i}}.ls{which}.gamma", f"blocks.{{i}}.gamma_{which}") for which in (1, 2)]
    return [*scales, *timm_rules(tensors)] if "blocks.0.gamma_1" in tensors else timm_rules(tensors)


def metadata(checkpoint: Checkpoint) -> CheckpointMetadata:
    return CheckpointMetadata(
        preprocessing=IMAGENET | dict(crop=0.875),
        assumed=("preprocessing: ImageNet's mean and std, centre crop 0.875, as DeiT's code evaluates",),
        resampling="hugging_face",
    )


deit = Source("deit", (QKV,), recognises, rules, metadata, absent=("architecture",))
