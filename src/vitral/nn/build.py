"""Build a model from its family and settings, or from the config that it carries.

A family is imported when it is first built, so that a run of the lecture's ViT loads nothing else.
"""

from typing import TYPE_CHECKING, Any

from torch import nn

from vitral.base.errors import ConfigError, UsageError
from vitral.base.lookup import at_path, nearest
from vitral.nn.parts import find_part

if TYPE_CHECKING:
    from vitral.nn.family.cnn import ResNet
    from vitral.nn.family.swin import SwinTransformer
    from vitral.nn.vit import VisionTransformer

    Model = VisionTransformer | SwinTransformer | ResNet
else:
    Model = nn.Module

FAMILIES = {
    "vit": "nn.vit:VisionTransformer",
    "any_size": "nn.family.any_size:AnySizeViT",
    "swin": "nn.family.swin:SwinTransformer",
    "resnet": "nn.family.cnn:ResNet",
}
VITS = ("vit", "any_size")


def family_class(family: str) -> type[Model]:
    """The class of a family's models. Raises `ConfigError` with the nearest name."""
    if family not in FAMILIES:
        raise ConfigError(f"Unknown family of models {family!r}.{nearest(family, FAMILIES)}")
    return at_path(FAMILIES[family], "nn")


def construct(family: str, **settings: Any) -> Model:
    """A model of a family. Stochastic depth is added to a finished ViT: `VisionTransformer` has no argument for it."""
    rate = settings.get("drop_path_rate", 0.0)
    if not 0 <= rate < 1:
        raise ConfigError(f"drop_path_rate={rate} must be in [0, 1).")
    make = family_class(family)
    if family not in VITS:
        return make(**settings)
    model: Any = make(**{key: value for key, value in settings.items() if key != "drop_path_rate"})
    if rate:
        from vitral.nn.family.block import stochastic_depth

        stochastic_depth([*model.blocks], rate)
        model.config["drop_path_rate"] = rate
    return model


def build(config: dict[str, Any]) -> Model:
    """The untrained model that a `model.config` describes, also after a round trip through JSON.

    Raises `UnknownName` for a part that is not Vitral's own, `ConfigError` for any other mistake in the config.
    """
    settings = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config.items()
        if key not in ("parts", "family")
    }
    family = str(config.get("family", "vit"))
    make = family_class(family)
    try:
        parts = {slot: find_part(recorded) for slot, recorded in config.get("parts", {}).items()}
        return construct(family, **settings, **parts)
    except UsageError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"This is not the config of a {make.__name__}: {error}.") from error
