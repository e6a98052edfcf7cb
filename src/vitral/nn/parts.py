"""What a part of a model may declare beside its forward pass, and how a config records the part.

A part is recorded by where it is defined, `"nn.family.pool:MeanPool"`; one with keyword arguments of its own, which is
a `functools.partial`, as `{"name": "nn.block:LayerNorm", "arguments": {"eps": 1e-05}}`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from types import UnionType
from typing import Any, Protocol, Union, get_args, get_origin, runtime_checkable

from torch import nn

from vitral.base.errors import ConfigError
from vitral.base.lookup import import_object, object_path

Part = Callable[..., Any]

# PyTorch's own layers that a slot can take. They are found in this table and never imported by name.
PYTORCH: dict[str, Part] = {
    f"torch:{layer.__name__}": layer for layer in (nn.Identity, nn.LayerNorm, nn.Linear, nn.RMSNorm)
}

# Types of arguments that JSON holds as they are, and what may stand for each.
PLAIN: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (float, int),
    str: (str,),
    type(None): (type(None),),
}

# Names of parts in older files, and what each is now.
RENAMED: dict[str, dict[str, Any]] = {
    "nn.family.block:LayerNorm5": dict(name="nn.block:LayerNorm", arguments=dict(eps=1e-5)),
    "nn.family.block:LayerNorm12": dict(name="nn.block:LayerNorm", arguments=dict(eps=1e-12)),
    "nn.family.mixer:DepthwiseMixing5": dict(name="nn.family.mixer:DepthwiseMixing", arguments=dict(kernel_size=5)),
    "nn.family.mixer:DepthwiseMixing7": dict(name="nn.family.mixer:DepthwiseMixing", arguments=dict(kernel_size=7)),
    "nn.family.mixer:CircularMixing": dict(
        name="nn.family.mixer:DepthwiseMixing", arguments=dict(padding_mode="circular")
    ),
    "nn.family.normed_rope:QKNormRotary": dict(name="nn.family.rope:QKNormRotary"),
    "nn.family.pool:TanhAttentionPool": dict(
        name="nn.family.pool:AttentionPool", arguments=dict(mlp=dict(name="nn.family.mlp:TanhMLP"))
    ),
}


@runtime_checkable
class KnowsGrid(Protocol):
    """A part that depends on where the tokens are; the model calls `set_grid` once, when it is built."""

    def set_grid(self, grid: tuple[int, int], num_prefix_tokens: int) -> None: ...


@runtime_checkable
class InitializesWeights(Protocol):
    """A part that draws its own weights, after the model has drawn those of all linear layers and convolutions."""

    def init_weights(self) -> None: ...


@runtime_checkable
class NormalizesItself(Protocol):
    """A pool that takes tokens before the final norm if `replaces_final_norm` is true, and has a norm of its own."""

    replaces_final_norm: bool


def build_with(part: Part, **sizes: Any) -> Any:
    """Build a part from those sizes that its signature names."""
    return part(**{name: sizes[name] for name in signature(part).parameters if name in sizes})


def check_layers(layers: Sequence[int], depth: int, noun: str) -> None:
    """Raise `ConfigError` that names those of `layers` that a model of so many blocks (or stages) does not have."""
    if wrong := [layer for layer in layers if not -depth <= layer < depth]:
        raise ConfigError(
            f"layers={wrong} do not exist: there are {depth} {noun}, 0 to {depth - 1} (or -{depth} to -1)."
        )


def record_part(part: Part) -> str | dict[str, Any]:
    """How a config names a part: JSON that `find_part` reads.

    >>> from functools import partial
    >>> from vitral.nn import LayerNorm
    >>> record_part(LayerNorm)
    'nn.block:LayerNorm'
    >>> record_part(partial(LayerNorm, eps=1e-12))
    {'name': 'nn.block:LayerNorm', 'arguments': {'eps': 1e-12}}

    An argument may be a number, text, true, false, none, a sequence of these, or a part. A part with other arguments is
    recorded by a text that `find_part` refuses, as a part from outside the package is.
    """
    if not isinstance(part, partial):
        return next((name for name, layer in PYTORCH.items() if layer is part), object_path(part))
    name = record_part(part.func)
    try:
        if part.args or not isinstance(name, str):
            raise TypeError("only keyword arguments have names")
        return dict(name=name, arguments={key: record_argument(value) for key, value in part.keywords.items()})
    except TypeError:
        return object_path(part)


def record_argument(value: Any) -> Any:
    """Raises `TypeError` for what JSON cannot hold."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [record_argument(item) for item in value]
    if not callable(value):
        raise TypeError(f"{value!r} is not JSON")
    recorded = record_part(value)
    return dict(name=recorded) if isinstance(recorded, str) else recorded


def find_part(recorded: Any, within: str = "nn") -> Part:
    """The part that a config records, if it is one of the package's own below `within` or of PyTorch's in `PYTORCH`.

    Nothing outside the package is imported for a name in a file. Raises `UnknownName` for any other name, `ConfigError`
    for what is not such a record.
    """
    if isinstance(recorded, str):
        recorded = dict(name=recorded)
    is_record = isinstance(recorded, Mapping) and {"name"} <= {*recorded} <= {"name", "arguments"}
    if not (is_record and isinstance(recorded["name"], str) and isinstance(recorded.get("arguments", {}), Mapping)):
        raise ConfigError(
            f"{recorded!r} does not describe a part of a model: expected a name, or {{'name': ..., 'arguments': "
            "{...}}."
        )
    recorded = RENAMED.get(recorded["name"], recorded)
    part = PYTORCH.get(recorded["name"]) or import_object(recorded["name"], within)
    arguments = {key: find_argument(value, within) for key, value in recorded.get("arguments", {}).items()}
    check_arguments(part, recorded["name"], arguments)
    return partial(part, **arguments) if arguments else part


def check_arguments(part: Part, name: str, arguments: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for an argument that a part does not have, or a number or text where it needs another type.

    A wrong type would be found only when the part first runs.
    """
    known = signature(part).parameters
    for key, value in arguments.items():
        if key not in known:
            raise ConfigError(f"{name} has no argument {key!r}; it has: {', '.join(known)}.")
        hint = known[key].annotation
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if not all(isinstance(kind, type) and kind in PLAIN for kind in kinds):
            continue  # sequences, parts and texts of a list are left to the part
        if type(value) not in {accepted for kind in kinds for accepted in PLAIN[kind]}:
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ConfigError(f"{name} takes a value of type {expected} as {key}, not {value!r}.")


def find_argument(value: Any, within: str) -> Any:
    if isinstance(value, Mapping):
        return find_part(value, within)
    return tuple(find_argument(item, within) for item in value) if isinstance(value, list) else value


def describe_part(part: Part) -> str:
    """What a message calls a part: `LayerNorm(eps=1e-12)`."""
    if not isinstance(part, partial):
        return part.__name__
    arguments = (f"{key}={describe_part(value) if callable(value) else value}" for key, value in part.keywords.items())
    return f"{describe_part(part.func)}({', '.join(arguments)})"
