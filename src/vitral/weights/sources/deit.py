"""DeiT, distilled or not, and DeiT III, as their authors wrote them (Touvron et al. 2021; 2022).

timm's names; DeiT III calls LayerScale `gamma_1` and `gamma_2`. Trained on pixels with ImageNet's mean and deviation.
"""

from vitral.weights.architecture import IMAGENET, Known
from vitral.weights.reading import Contents
from vitral.weights.rules import Rule, rule
from vitral.weights.source import Source, Tensors
from vitral.weights.sources.timm import bare, plain
from vitral.weights.sources.timm import rules as of_timm


def recognises(contents: Contents) -> bool:
    names = contents.tensors
    scaled = {"blocks.0.gamma_1", "pos_embed"} <= set(names) and "architecture" not in contents.config
    own = scaled or ("dist_token" in names and not contents.config)
    return plain(contents) and (own or bare(contents))


def rules(tensors: Tensors) -> list[Rule]:
    scales = [rule(f"blocks.{{i}}.ls{which}.gamma", f"blocks.{{i}}.gamma_{which}") for which in (1, 2)]
    return [*scales, *of_timm(tensors)] if "blocks.0.gamma_1" in tensors else of_timm(tensors)


def known(contents: Contents) -> Known:
    return Known(
        preprocessing=IMAGENET | dict(crop=0.875),
        assumed=("pixels of ImageNet's mean and deviation, the middle 0.875, as DeiT's code evaluates",),
        resampling="hugging_face",
    )


deit = Source("deit", recognises, rules, known)
