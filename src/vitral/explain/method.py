"""What an explanation method is: a function of an observation and a target class that returns a `PatchMap`.

A file in `explain/methods` defines one, under its own name:

    @method(needs=["attention"])
    def first_head(observation, target=None):
        "What the first token attends to in the first head of the last layer. Raises `WatchError` without attention."
        layer = observation.layers[-1]
        row = layer.tokens.patches(layer.rows([0])[:, 0, 0])
        return PatchMap(row, layer.tokens.grid, "This map shows one head.", layers=(layer.name,))

Axes:  b images   l layers   h heads   g patches   gy gx rows, columns of patches
"""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.errors import UsageError
from vitral.explain.observation import Need, Observation
from vitral.recording.indices import Grid
from vitral.recording.token_roles import TokenRoles
from vitral.report.colours import UNIFORM


@dataclass(frozen=True)
class PatchMap:
    """One value per patch of each image, or per layer, head and patch.

    values       (B, G), (B, gy, gx), or (B, layers, heads, G), in this order of axes, which is not checked; at least 0
                 if `unit` is "times uniform", and then scaled so that 1 is uniform; else in `unit`
    grid         rows and columns of patches
    explains     what the map shows, in a sentence
    sign         "signed" if negative values speak against the class
    layers       names of the layers shown, or of the one place that the map is of, such as "pixels"; `heads` are the
                 numbers of the heads shown
    prefix_mass  the share of attention that is not on patches, (B,) or (B, layers, heads)
    residual     how far the rows used were from reproducing the model's output; None if no attention was used
    classes      the class explained for each image, by a method that knows classes
    reader       whose attention it is; `reader_is_readout` is false if the answer is not read from there
    prefix       what the tokens before the patches are called, if there are any
    why_zero     why a map of this method is zero everywhere, when it is, in a sentence
    """

    values: Tensor
    grid: Grid
    explains: str
    unit: str = UNIFORM
    sign: Literal["positive", "signed"] = "positive"
    layers: tuple[str, ...] = ("all",)
    heads: tuple[int, ...] = (0,)
    prefix_mass: Tensor | None = None
    residual: float | None = None
    classes: Tensor | None = None
    reader: str = ""
    reader_is_readout: bool = True
    prefix: str = ""
    why_zero: str = ""

    def __post_init__(self) -> None:
        shape, grid = tuple(self.values.shape), tuple(self.grid)
        layers, patches = (len(self.layers), len(self.heads)), grid[0] * grid[1]
        single = layers == (1, 1) and shape[1:] in ((patches,), grid)
        if not single and shape[1:] not in ((*layers, patches), (*layers, *grid)):
            raise UsageError(
                f"A map of shape {shape} does not fit a grid of {grid[0]} x {grid[1]} with {layers[0]} layers and "
                f"{layers[1]} heads: values are (B, {patches}), (B, {grid[0]}, {grid[1]}), or (B, layers, heads, "
                f"{patches})."
            )
        if self.unit == UNIFORM and self.sign == "signed":
            raise UsageError(f"Signed values cannot be shares: give them a unit other than {UNIFORM!r}.")

    @property
    def scaled(self) -> Float[Tensor, "b l h gy gx"]:
        """The values in single precision, in their unit, with all axes."""
        values = self.values.detach().float()
        depth, heads, (rows, columns) = len(self.layers), len(self.heads), self.grid
        patches = values.reshape(len(values), depth, heads, rows * columns)
        patches = times_uniform(patches) if self.unit == UNIFORM else patches
        return patches.reshape(len(values), depth, heads, rows, columns)


def times_uniform(shares: Float[Tensor, "*b g"]) -> Float[Tensor, "*b g"]:
    """Shares of the patches as multiples of what each would get if all were alike; all zero where all are zero."""
    return shares * shares.shape[-1] / shares.sum(dim=-1, keepdim=True).clamp_min(1e-30)


def check_shares(rows: Float[Tensor, "*b n"], layer: str) -> None:
    """Raise `UsageError` for weights that are negative, as where attention is subtracted, or complex: no shares."""
    if rows.is_complex():
        raise UsageError(
            f"{layer} multiplies its values by complex numbers, which are not shares of the patches. vitral.watch "
            "gives the weights themselves: seen.layers[...].rows([...]). occlusion needs no weights."
        )
    if float(rows.min()) < -1e-6 * float(rows.abs().max()):
        raise UsageError(
            f"Some of the weights that multiply the values in {layer} are negative (down to {float(rows.min()):.2g}), "
            "as when heads are mixed or attention is subtracted, so they are not shares of the patches. vitral.watch "
            "gives the weights themselves: seen.layers[...].rows([...])."
        )


@dataclass(frozen=True)
class Method:
    """An explanation method: `method(observation, target, **options) -> PatchMap`, and what it needs to be observed."""

    function: Callable[..., PatchMap]
    needs: frozenset[Need]

    def __post_init__(self) -> None:
        for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):  # help() shows the function's own
            object.__setattr__(self, attribute, getattr(self.function, attribute))
        object.__setattr__(self, "__wrapped__", self.function)

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """Its own options, all by keyword."""
        return dict(list(inspect.signature(self.function).parameters.items())[2:])

    def __call__(self, observation: Observation, target: Any = None, **options: Any) -> PatchMap:
        with torch.no_grad():  # where a method needs gradients, the observation turns their recording on again
            return self.function(observation, target, **options)


def method(needs: Collection[Need] = ()) -> Callable[[Callable[..., PatchMap]], Method]:
    """Declare an explanation method and what an observation must record for it (see `observe`)."""
    return lambda function: Method(function, frozenset(needs))


def share_of_prefix(row: Float[Tensor, "b n"], tokens: TokenRoles) -> Float[Tensor, " b"]:
    """The share of each row that is on tokens that are no patches; zero where the row is zero."""
    return tokens.others(row).sum(dim=1) / row.sum(dim=1).clamp_min(1e-30)


def padding_note(share: float) -> str:
    """A sentence for captions on attention within windows of which a share is on padding; empty below half a percent.

    Padding has no place in the image, so the map shows how the rest is divided.
    """
    most = f"up to {share:.0%} of the attention of an image is on the padding of its windows"
    return f" {most[0].upper()}{most[1:]}, which has no place in the image." if share >= 0.005 else ""
