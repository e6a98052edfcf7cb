"""The families of models, the sizes in which plain ViTs are published, and models built from settings or a config.

Sizes: Dosovitskiy et al. 2021, table 1; Zhai et al. 2022, table 2.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vitral.base.errors import ConfigError, UsageError
from vitral.base.lookup import nearest
from vitral.nn.parts import find_part

if TYPE_CHECKING:
    from vitral.nn.family.cnn import ResNet
    from vitral.nn.family.segmenter import Segmenter
    from vitral.nn.family.swin import SwinTransformer
    from vitral.nn.vit import VisionTransformer

    Model = VisionTransformer | SwinTransformer | ResNet | Segmenter
else:
    Model = Any

# Where each family's class is defined. It is imported when a model of it is built: most programs build one.
FAMILIES = {
    "vit": "nn.vit:VisionTransformer",
    "any_size": "nn.high_resolution.any_size:AnySizeViT",
    "swin": "nn.family.swin:SwinTransformer",
    "resnet": "nn.family.cnn:ResNet",
}
VITS = ("vit", "any_size")
ADDED = ("drop_path_rate", "window_size", "global_blocks")  # settings of a ViT that are no arguments of its class

# width, blocks, heads, hidden width of the MLP over width
SIZES: dict[str, tuple[int, int, int, float]] = {
    "nano": (64, 4, 4, 2.0),
    "micro": (128, 6, 4, 2.0),
    "mu": (32, 1, 2, 4.0),
    "tiny": (192, 12, 3, 4.0),
    "small": (384, 12, 6, 4.0),
    "medium": (512, 12, 8, 4.0),
    "base": (768, 12, 12, 4.0),
    "large": (1024, 24, 16, 4.0),
    "so400m": (1152, 27, 16, 4304 / 1152),
    "huge": (1280, 32, 16, 4.0),
    "giant": (1408, 40, 16, 48 / 11),
    "gigantic": (1664, 48, 16, 64 / 13),
}


def family_class(family: str) -> "type[Model]":
    """The class of a family's models. Raises `ConfigError` with the nearest name."""
    if family not in FAMILIES:
        raise ConfigError(f"Unknown model family {family!r}.{nearest(family, FAMILIES)}")
    module, _, name = FAMILIES[family].partition(":")
    found: type[Model] = getattr(import_module(f"vitral.{module}"), name)
    return found


def construct(family: str, **settings: Any) -> "Model":
    """A model of a family.

    Stochastic depth and windows are added to a finished ViT: `VisionTransformer` has no arguments for them.
    """
    rate = settings.get("drop_path_rate", 0.0)
    if not 0 <= rate < 1:
        raise ConfigError(f"drop_path_rate={rate} must be in [0, 1).")
    if family not in VITS:
        return family_class(family)(**settings)
    model: Any = family_class(family)(**{key: value for key, value in settings.items() if key not in ADDED})
    if rate:
        from vitral.nn.family.block import stochastic_depth

        stochastic_depth([*model.blocks], rate)
        model.config["drop_path_rate"] = rate
    if (window_size := settings.get("window_size")) is not None:
        from vitral.nn.high_resolution.windowed import attend_in_windows

        attend_in_windows(model, window_size, settings.get("global_blocks"))
    elif settings.get("global_blocks") is not None:
        raise ConfigError("global_blocks are those that do not attend in windows: specify window_size, too.")
    return model


def build(config: dict[str, Any]) -> "Model":
    """The untrained model that a `model.config` describes, also after a round trip through JSON.

    Raises `UnknownName` for a part that is not Vitral's own, `ConfigError` for any other mistake in the config.
    """
    settings: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config.items()
        if key not in ("parts", "family")
    }
    family = str(config.get("family", "vit"))
    if family == "segmenter":
        return build_segmenter(**settings)
    make = family_class(family)
    try:
        parts = {slot: find_part(recorded) for slot, recorded in config.get("parts", {}).items()}
        return construct(family, **settings, **parts)
    except UsageError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"This is not the config of a {make.__name__}: {error}.") from error


def build_segmenter(encoder: dict[str, Any], num_classes: int, decoder: Any, img_size: Any) -> "Model":
    """The segmenter of a config; `img_size` is that of its encoder."""
    from vitral.nn.family.segmenter import Segmenter

    return Segmenter(build(encoder | {"img_size": img_size, "num_classes": 0}), num_classes, find_part(decoder))
