"""`vitral.create`: a new, untrained model by the name of an architecture, or by the reader's own module."""

from pathlib import Path
from typing import Any

from torch import nn

from vitral.base.errors import ConfigError, UnknownName
from vitral.base.lookup import nearest
from vitral.nn import zoo
from vitral.nn.patch import Size, pair
from vitral.store.code import from_code
from vitral.weights.spec import check_spec, parse_checkpoint_spec


def create(spec: str, **overrides: Any) -> nn.Module:
    """An untrained model: an architecture's name (`vitral.list_models()`), or `file.py:Name`, the reader's own module.

    `overrides` are arguments of the architecture's class, such as `num_classes` (0 for features), `img_size` (int or
    (height, width)), `in_channels` and `drop_path_rate` ([0, 1)); the reader's own takes `num_classes` and `img_size`.

    Raises `UnknownName` with the nearest name, `ConfigError` for sizes that do not fit together, and for a spec that
    names weights: those are loaded.

    >>> from vitral import create
    >>> create("vit_nano_patch8_48", num_classes=10).config["depth"]
    4
    """
    check_spec(spec)
    if spec in zoo.MODELS:
        return zoo.create(spec, **overrides)
    if (kind := parse_checkpoint_spec(spec).kind) == "code":
        return create_own_module(spec, **overrides)
    if kind != "run" or Path(spec).exists():
        raise ConfigError(
            f"{spec} has weights, but create builds untrained models: specify an architecture of `vitral models`, or "
            f"file.py:Name. To load it: vitral.load({spec!r})."
        )
    raise UnknownName(
        f"There is no model {spec!r}.{nearest(spec, zoo.MODELS)} `vitral models` lists them; specify your own as "
        "file.py:Name."
    )


def create_own_module(spec: str, num_classes: int = 1000, img_size: Size = 224, **others: Any) -> nn.Module:
    """The reader's own module for so many classes."""
    if others:
        raise ConfigError(f"{spec} takes only num_classes and img_size here; {', '.join(others)} cannot be passed.")
    return from_code(spec, num_classes, pair(img_size))
