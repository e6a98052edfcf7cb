"""Which layers can stand in one figure: those with as many heads and the same tokens."""

from collections.abc import Callable, Sequence
from typing import Any

from vitral.base.errors import UsageError, WatchError
from vitral.recording.indices import select
from vitral.recording.layers import Layer, Recording
from vitral.recording.roles import TokenRoles


def comparable_layers(recording: Recording, layers: Sequence[int] | None) -> tuple[list[Layer], str]:
    """The selected layers, or the last ones that are alike, and a note on what is not shown.

    Raises `UsageError` if selected layers have different grids or heads, or the roles of their tokens are not known.
    """
    everything = recording.layers
    missed = recording.unmatched_softmaxes
    note = f" {missed} more softmaxes over tokens were formed whose products with values are not known." * bool(missed)
    if layers is not None:
        selected = [everything[index] for index in select(layers, len(everything), "layer")]
        if len({kind(layer) for layer in selected}) > 1:
            sizes = ", ".join(f"{number} {layer.name}: {size(layer)}" for number, layer in enumerate(everything))
            raise UsageError(
                f"The layers have different numbers of heads and tokens ({sizes}), so they do not fit one figure. "
                "Select layers of one size: layers=[...]."
            )
        return selected, note
    kind(everything[-1])  # raises if its tokens are not known
    first = first_of_last_run(everything, kind)
    if first:  # an attention pool stands beside the tokens it pools only if all layers are shown
        first = first_of_last_run(everything, lambda layer: (kind(layer), layer.num_queries))
        note = f" Layers 0 to {first - 1} have other grids or heads and are not shown." + note
    return everything[first:], note


def kind(layer: Layer) -> tuple[int, TokenRoles]:
    """What layers in one figure have in common. Raises `UsageError` if the roles of the tokens are not known."""
    return layer.num_heads, layer.tokens


def size(layer: Layer) -> str:
    """The layer's heads and grid in words."""
    try:
        rows, columns = layer.tokens.grid
    except (UsageError, WatchError):
        return f"{layer.num_heads} heads, of tokens whose places are not known"
    return f"{layer.num_heads} heads, {rows} x {columns}"


def first_of_last_run(layers: Sequence[Layer], key: Callable[[Layer], Any]) -> int:
    """The number of the first layer from which on all have the key of the last one."""
    last = key(layers[-1])
    for number in reversed(range(len(layers))):
        try:
            same = key(layers[number]) == last
        except UsageError:
            same = False
        if not same:
            return number + 1
    return 0
