"""One table of names and sizes. Names follow timm: `vit_SIZE_patchPATCH_IMAGE`."""

import inspect
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from vitral.base.errors import ConfigError, UsageError
from vitral.base.lookup import at_path, check_name, nearest
from vitral.nn.family.mixer import QKNormAttention
from vitral.nn.family.position import SinCosStart
from vitral.nn.vit import VisionTransformer


@dataclass(frozen=True)
class Width:
    """The sizes that a name's second word stands for, and the parts, if any, that differ from the lecture's."""

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    parts: dict[str, Any] = field(default_factory=dict)


# Made to be trained from nothing in minutes: see docs/decisions/ for what each part is worth there.
SMALL = dict(mixer=QKNormAttention, position=SinCosStart)

WIDTHS = {
    "nano": Width(64, 4, 4, 2.0, SMALL),
    "micro": Width(128, 6, 4, 2.0, SMALL),
    "tiny": Width(192, 12, 3),
    "small": Width(384, 12, 6),
    "base": Width(768, 12, 12),
    "large": Width(1024, 24, 16),
    "huge": Width(1280, 32, 16),
}

PATCHES_AND_IMAGES = {
    "nano": ((2, 8), (4, 32), (8, 48), (8, 64)),
    "micro": ((4, 32), (8, 64), (16, 128)),
    "tiny": ((16, 224), (16, 384)),
    "small": ((16, 224), (16, 384), (32, 224), (32, 384)),
    "base": ((8, 224), (16, 224), (16, 384), (32, 224), (32, 384)),
    "large": ((14, 224), (16, 224), (16, 384), (32, 224), (32, 384)),
    "huge": ((14, 224),),
}

MODELS = {
    f"vit_{width}_patch{patch}_{image}": (WIDTHS[width], patch, image)
    for width, pairs in PATCHES_AND_IMAGES.items()
    for patch, image in pairs
}


def list_models(pattern: str = "*") -> list[str]:
    """The names that `create` knows, smallest first; `pattern` as in a shell: `vit_*_patch16_224`."""
    return [name for name in MODELS if fnmatch(name, pattern)]


def create(name: str, **overrides: Any) -> VisionTransformer:
    """An untrained model by name; any argument of `VisionTransformer` can be given instead of the name's own.

    Raises `UnknownName` with the nearest name, `ConfigError` for sizes that do not fit together.
    """
    check_name(name, MODELS, "model")
    width, patch, image = MODELS[name]
    known = inspect.signature(VisionTransformer).parameters
    if unknown := next((key for key in overrides if key not in known), None):
        raise ConfigError(f"{name} has no setting {unknown!r}.{nearest(unknown, known)} Settings: {', '.join(known)}.")
    sizes = dict(
        img_size=image,
        patch_size=patch,
        embed_dim=width.embed_dim,
        depth=width.depth,
        num_heads=width.num_heads,
        mlp_ratio=width.mlp_ratio,
    )
    return VisionTransformer(**(sizes | width.parts | overrides))


def build(config: dict[str, Any]) -> VisionTransformer:
    """The untrained model that a `model.config` describes, as it comes back from JSON.

    Raises `UnknownName` if it has a part that is not Vitral's own, `ConfigError` if it is no such config.
    """
    sizes: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in config.items() if key != "parts"
    }
    try:
        parts = {slot: at_path(path, within="nn") for slot, path in config.get("parts", {}).items()}
        return VisionTransformer(**sizes, **parts)
    except UsageError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"This is no config of a VisionTransformer: {error}.") from error
