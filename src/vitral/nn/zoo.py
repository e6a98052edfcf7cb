"""One table of names and sizes. Names follow timm: `vit_SIZE_patchPATCH_IMAGE`, `swin_SIZE_patch4_windowW_IMAGE`.

Swin's sizes: Liu et al. 2021, §3.3; other variants: the papers in `VARIANTS`.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import Any

from vitral.base.errors import ConfigError
from vitral.base.lookup import check_name, find, nearest
from vitral.nn.block import LayerNorm
from vitral.nn.families import ADDED, SIZES, VITS, Model, construct, family_class
from vitral.nn.family.block import ScaledBlock
from vitral.nn.family.head import DistilledHead
from vitral.nn.family.mixer import DepthwiseMixing, NoMixing, QKNormAttention, WindowMixing
from vitral.nn.family.mlp import SwiGLU, TanhMLP
from vitral.nn.family.pool import AttentionPool, FirstTwo, MeanPool
from vitral.nn.family.position import NoPosition, PatchPosition, SinCosPosition, SinCosStart
from vitral.nn.family.rope import RotaryAttention

Settings = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A family of models and the settings of one of them."""

    family: str
    settings: Settings


PLAIN = {
    "nano": ((2, 8), (4, 32), (8, 48), (8, 64), (8, 128)),
    "micro": ((4, 32), (8, 64), (8, 128), (16, 128)),
    "mu": ((16, 224),),
    "tiny": ((16, 224), (16, 384)),
    "small": ((8, 224), (16, 224), (16, 384), (32, 224), (32, 384)),
    "medium": ((16, 224),),
    "base": ((8, 224), (16, 224), (16, 384), (32, 224), (32, 384)),
    "large": ((14, 224), (16, 224), (16, 384), (16, 512), (32, 224), (32, 384)),
    "so400m": ((14, 224),),
    "huge": ((14, 224), (14, 518)),
    "giant": ((14, 224),),
    "gigantic": ((14, 224),),
}

# To be trained from scratch in minutes; docs/decisions/ has what each part gains there.
SMALL: Settings = dict(mixer=QKNormAttention, position=SinCosStart)

REGISTERS: Settings = dict(tokens={"cls_token": 1, "reg_token": 4})
SCALED: Settings = dict(block=ScaledBlock)
NO_TOKENS: Settings = dict(tokens={})
DISTILLED: Settings = dict(tokens={"cls_token": 1, "dist_token": 1}, pool=FirstTwo, head=DistilledHead)
GIANT2: Settings = dict(embed_dim=1536, depth=40, num_heads=24, mlp_ratio=4096 / 1536, mlp=SwiGLU)
DINOV3: Settings = (
    REGISTERS | SCALED | dict(mixer=RotaryAttention, position=NoPosition, norm=partial(LayerNorm, eps=1e-5))
)
SIGLIP: Settings = NO_TOKENS | dict(position=PatchPosition, pool=partial(AttentionPool, mlp=TanhMLP), mlp=TanhMLP)
SIMPLE: Settings = NO_TOKENS | dict(position=SinCosPosition, pool=MeanPool)

# pattern of names, sizes, patch, image, parts
VARIANTS: tuple[tuple[str, tuple[str, ...], int, int, Settings], ...] = (
    ("deit_{}_patch16_224", ("tiny", "small", "base"), 16, 224, {}),  # Touvron et al. 2021
    ("deit_{}_patch16_384", ("base",), 16, 384, {}),
    ("deit_{}_distilled_patch16_224", ("tiny", "small", "base"), 16, 224, DISTILLED),
    ("deit_{}_distilled_patch16_384", ("base",), 16, 384, DISTILLED),
    ("deit3_{}_patch16_224", ("small", "medium", "base", "large"), 16, 224, SCALED | dict(position=PatchPosition)),
    ("deit3_{}_patch14_224", ("huge",), 14, 224, SCALED | dict(position=PatchPosition)),
    ("vit_{}_patch14_dinov2", ("small", "base", "large"), 14, 518, SCALED),  # Oquab et al. 2023
    (
        "vit_{}_patch14_reg4_dinov2",
        ("small", "base", "large"),
        14,
        518,
        REGISTERS | SCALED | dict(position=PatchPosition),
    ),
    ("vit_{}_patch14_dinov2", ("giant",), 14, 518, SCALED | GIANT2),
    ("vit_{}_patch14_reg4_dinov2", ("giant",), 14, 518, REGISTERS | SCALED | GIANT2 | dict(position=PatchPosition)),
    ("vit_{}_patch16_dinov3", ("small", "base", "large"), 16, 256, DINOV3),  # Siméoni et al. 2025
    ("vit_{}_patch16_siglip_224", ("base",), 16, 224, SIGLIP),  # Zhai et al. 2023
    ("vit_{}_patch16_siglip_256", ("large",), 16, 256, SIGLIP),
    ("vit_{}_patch14_siglip_224", ("so400m",), 14, 224, SIGLIP),
    ("simplevit_{}_patch16_224", ("tiny", "small", "base", "large"), 16, 224, SIMPLE),  # Beyer et al. 2022
)

# Models that differ in their token mixer alone.
MIXERS: dict[str, Settings] = {
    "attention": dict(mixer=QKNormAttention),
    "dwconv3": dict(mixer=DepthwiseMixing),
    "dwconv5": dict(mixer=partial(DepthwiseMixing, kernel_size=5)),
    "dwconv7": dict(mixer=partial(DepthwiseMixing, kernel_size=7)),
    "circular3": dict(mixer=partial(DepthwiseMixing, padding_mode="circular")),
    "window3": dict(mixer=WindowMixing),
    "nothing": dict(mixer=NoMixing),
}

# size, width, blocks of the third stage, heads of the first, window, image
SWINS = (
    ("tiny", 96, 6, 3, 7, 224),
    ("small", 96, 18, 3, 7, 224),
    ("base", 128, 18, 4, 7, 224),
    ("base", 128, 18, 4, 12, 384),
    ("large", 192, 18, 6, 7, 224),
    ("large", 192, 18, 6, 12, 384),
)


def entries() -> Iterator[tuple[str, Entry]]:
    """Every name and its entry."""
    for size, pairs in PLAIN.items():
        for patch, image in pairs:
            small = SMALL if size in ("nano", "micro") else {}
            yield f"vit_{size}_patch{patch}_{image}", Entry("vit", sized(size, patch, image) | small)
    for name, sizes, patch, image, parts in VARIANTS:
        for size in sizes:
            yield name.format(size), Entry("vit", sized(size, patch, image) | parts)
    for mixer, parts in MIXERS.items():
        shared = sized("nano", 8, 48) | NO_TOKENS | dict(position=SinCosStart, pool=MeanPool)
        yield f"iso_{mixer}_nano_patch8_48", Entry("vit", shared | parts)
    for size, width, third, heads, window, image in SWINS:
        stages = dict(depths=(2, 2, third, 2), num_heads=tuple(heads << stage for stage in range(4)))
        settings = dict(img_size=image, embed_dim=width, window_size=window) | stages
        yield f"swin_{size}_patch4_window{window}_{image}", Entry("swin", settings)
    nano = dict(patch_size=2, embed_dim=48, depths=(2, 2), num_heads=(2, 4), window_size=6)
    yield "swin_nano_patch2_window6_48", Entry("swin", dict(img_size=48) | nano)
    stages = dict(depths=(2, 2, 2), num_heads=(2, 4, 8))
    yield "swin_nano_patch4_window8_128", Entry("swin", dict(img_size=128, embed_dim=48, window_size=8) | stages)
    yield "resnet_nano_128", Entry("resnet", dict(img_size=128, embed_dim=16, depths=(1, 1, 1, 1)))
    yield "resnet_nano_48", Entry("resnet", dict(img_size=48, embed_dim=32, depths=(1, 1, 1)))
    yield "resnet_micro_64", Entry("resnet", dict(img_size=64, embed_dim=64, depths=(2, 2, 2)))


def sized(size: str, patch: int, image: int) -> Settings:
    width, depth, heads, ratio = SIZES.get(size, SIZES["base"])
    return dict(img_size=image, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads, mlp_ratio=ratio)


MODELS = dict(entries())


def list_models(pattern: str = "*") -> list[str]:
    """The names of models that `create` builds and that match a shell pattern.

    >>> from vitral import list_models
    >>> list_models("deit_small*")
    ['deit_small_patch16_224', 'deit_small_distilled_patch16_224']
    """
    return [name for name in MODELS if fnmatch(name, pattern)]


def create(name: str, **overrides: Any) -> Model:
    """An untrained model by name; `overrides` replace arguments of its class.

    `drop_path_rate`, in [0, 1), is the stochastic depth of the last block in training. With `window_size`, in patches,
    a ViT attends in windows, but for its `global_blocks` (see `nn.high_resolution.windowed`). With a `decoder`,
    "linear", "detail", "pyramid" or a class, it becomes the encoder of a segmenter: logits for each pixel.

    >>> from vitral import create
    >>> model = create("vit_tiny_patch16_224", num_classes=10, img_size=(32, 64))
    >>> model.grid, sum(parameter.numel() for parameter in model.parameters())
    ((2, 4), 5490250)

    Raises `UnknownName` with the nearest name, `ConfigError` for sizes that do not fit together.
    """
    check_name(name, MODELS, "model")
    entry = MODELS[name]
    if (decoder := overrides.pop("decoder", None)) is not None:
        from vitral.nn.family.segmenter import Segmenter

        classes = overrides.pop("num_classes", 1000)
        part = find("nn.family.decoders", decoder, "decoder") if isinstance(decoder, str) else decoder
        return Segmenter(create(name, num_classes=0, **overrides), classes, part)
    known = [*inspect.signature(family_class(entry.family)).parameters]
    known += ["decoder", *(ADDED if entry.family in VITS else [])]
    if unknown := next((key for key in overrides if key not in known), None):
        raise ConfigError(f"{name} has no setting {unknown!r}.{nearest(unknown, known)} Settings: {', '.join(known)}.")
    return construct(entry.family, **(entry.settings | overrides))
