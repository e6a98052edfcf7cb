"""What Swin's tensors say about its architecture, and names that are shared by its sources.

Heads and windows are in the tables of biases; the image size is not, since Swin takes any.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitral.base.errors import StoreError
from vitral.weights.architecture import patches_of
from vitral.weights.rules import Rule, rule
from vitral.weights.source import Source

Tensors = Mapping[str, Tensor]
TABLE = "attn.relative_position_bias_table"
INDEX = "attn.relative_position_index"
BUFFERS = dict.fromkeys(
    ("{m}relative_position_index", "{m}attn_mask"), "a table of places that follows from the window"
)
SQUARE = "Vitral's Swin has windows whose sides are the same"


def swin_of(tensors: Tensors, known: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the `SwinTransformer` that these tensors are of. Raises `StoreError` where something is missing."""
    embed_dim, in_channels, patch = patches_of(tensors, "Swin")
    places = [
        (int(found[1]), int(found[2]))
        for name in tensors
        if (found := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name))
    ]
    stages = 1 + max((stage for stage, _ in places), default=-1)
    depths = tuple(1 + max((block for own, block in places if own == stage), default=-1) for stage in range(stages))
    tables = [tensors.get(f"layers.{stage}.blocks.0.{TABLE}") for stage in range(stages)]
    if not stages or any(table is None for table in tables):
        raise StoreError("The checkpoint has no blocks of a Swin, or blocks without a table of biases.")
    window = max(side_of(table) for table in tables if table is not None)
    return dict(
        in_channels=in_channels,
        patch_size=patch,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=tuple(table.shape[1] for table in tables if table is not None),
        window_size=window,
        mlp_ratio=tensors["layers.0.blocks.0.mlp.fc1.weight"].shape[0] / embed_dim,
        num_classes=tensors["head.weight"].shape[0] if "head.weight" in tensors else 0,
        img_size=(32 * window, 32 * window),
    ) | dict(known)


def side_of(table: Tensor) -> int:
    """The window of a table with (2w - 1)² rows."""
    side = math.isqrt(len(table))
    if side * side != len(table) or side % 2 == 0:
        raise StoreError(f"A table of biases with {len(table)} rows is of no square window: {SQUARE}.")
    return (side + 1) // 2


def check_windows(tensors: Tensors, size: tuple[int, int]) -> None:
    """Raise `StoreError` if a stage's windows are smaller than others' for another reason than its small map."""
    sides: dict[int, int] = {}
    for name, table in tensors.items():
        if (found := re.match(rf"layers\.(\d+)\..*{re.escape(TABLE)}$", name)) is not None:
            sides[int(found[1])] = side_of(table)
    patch = tensors["patch_embed.proj.weight"].shape[2:]
    for stage, side in sides.items():
        rows, columns = (-(-length // (own << stage)) for length, own in zip(size, patch))
        if side != max(sides.values()) and side not in (rows, columns):
            raise StoreError(f"Stage {stage} has windows of {side}, others of {max(sides.values())}: not read.")


def maps_of(config: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Rows and columns of each stage's map, for images of the model's own size."""
    sides = [-(-length // own) for length, own in zip(config["img_size"], config["patch_size"])]
    return [(-(-sides[0] // (1 << stage)), -(-sides[1] // (1 << stage))) for stage in range(len(config["depths"]))]


def otherwise(
    publisher: str, does: str, config: Mapping[str, Any], odd: Callable[[int, int, int], bool]
) -> tuple[str, ...]:
    """That its code computes something else, by what it does to a map that is odd to it; and at which sizes not.

    `odd` is asked for the rows and columns of each stage's map and the side of the windows.
    """
    window, (height, width) = config["window_size"], config["img_size"]
    if not (found := [own for own in maps_of(config) if odd(*own, window)]):
        return ()
    sides = [(own << (len(config["depths"]) - 1)) * window for own in config["patch_size"]]
    exact = " and ".join(f"{times * sides[0]} x {times * sides[1]}" for times in (1, 2))
    return (
        f"{publisher} computes something else for images of {height} x {width}: it {does}, and one is {found[0][0]} x "
        f"{found[0][1]}, with windows of {window}. Exact are images of {exact}, and so on",
    )


def smaller(rows: int, columns: int, window: int) -> bool:
    """Whether a window does not find room in a map."""
    return min(rows, columns) < window


def cut_off(publisher: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """That its code leaves out the last pixels of an image that is no whole patches, where ours pads it."""
    height, width = config["img_size"]
    if not (height % config["patch_size"][0] or width % config["patch_size"][1]):
        return ()
    return (f"{publisher} cuts off what is no whole patch of images of {height} x {width}, where Vitral pads it",)


def whole_tables(ours: Tensors) -> Tensors:
    """Tables of windows that were cut to a small grid, put in the middle of whole ones: what is new is never used.

    Raises `StoreError` for windows with two different sides, which the tables of places beside them tell.
    """
    tables = {name: tensor for name, tensor in ours.items() if name.endswith(TABLE)}
    for name, table in tables.items():
        index = ours.get(name.removesuffix(TABLE) + INDEX)
        if index is not None and index.numel() != side_of(table) ** 4:
            raise StoreError(f"{name} is of no square window: {SQUARE}.")
    window = max((side_of(table) for table in tables.values()), default=0)
    return {**ours, **{name: grown(table, window) for name, table in tables.items()}}


def grown(table: Tensor, window: int) -> Tensor:
    own, side = 2 * side_of(table) - 1, 2 * window - 1
    if own == side:
        return table
    whole = torch.zeros(side, side, table.shape[1], dtype=table.dtype)
    edge = (side - own) // 2
    whole[edge : edge + own, edge : edge + own] = table.reshape(own, own, -1)
    return whole.flatten(0, 1)


def rules(head: str) -> list[Rule]:
    """Names that timm and Microsoft share, which are ours."""
    block = [
        *(f"{part}.{{p}}" for part in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")),
        TABLE,
    ]
    return [
        rule("patch_embed.proj.{p}"),
        rule("patch_embed.norm.{p}"),
        *(rule(f"layers.{{s}}.blocks.{{i}}.{name}") for name in block),
        rule("layers.{s}.downsample.norm.{p}"),
        rule("layers.{s}.downsample.reduction.{p}"),
        rule("norm.{p}"),
        rule("head.{p}", f"{head}.{{p}}"),
    ]


def moved(tensors: Tensors, stage_of: re.Pattern[str], step: int) -> dict[str, Tensor]:
    """With the number that the pattern's group finds in a name moved on by so much."""

    def named(name: str) -> str:
        found = stage_of.match(name)
        if found is None:
            return name
        return f"{name[: found.start(1)]}{int(found[1]) + step}{name[found.end(1) :]}"

    return {named(name): tensor for name, tensor in tensors.items()}


swin_source = partial(Source, family="swin", dropped=BUFFERS, settings=swin_of)
