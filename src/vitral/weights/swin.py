"""What Swin's tensors say about its architecture, and names that are shared by its sources.

Heads and windows are in the tables of biases; the image size is not, since Swin takes any. Where nothing says it, it is
the least whose maps are all whole windows.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
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
        img_size=tuple((side << (stages - 1)) * window for side in patch),
    ) | dict(known)


def side_of(table: Tensor) -> int:
    """The window of a table with (2w - 1)² rows."""
    side = math.isqrt(len(table))
    if side * side != len(table) or side % 2 == 0:
        raise StoreError(f"A table of biases with {len(table)} rows is of no square window: {SQUARE}.")
    return (side + 1) // 2


def maps_of(size: Sequence[int], patch: Sequence[int], stages: int) -> list[tuple[int, int]]:
    """Rows and columns of each stage's map, for images of this size."""
    sides = [-(-length // own) for length, own in zip(size, patch)]
    return [(-(-sides[0] // (1 << stage)), -(-sides[1] // (1 << stage))) for stage in range(stages)]


def otherwise(
    publisher: str, does: str, config: Mapping[str, Any], odd: Callable[[int, int, int], bool]
) -> tuple[str, ...]:
    """That its code computes something else, by what it does to a map that is odd to it; and at which sizes not.

    `odd` is asked for the rows and columns of each stage's map and the side of the windows.
    """
    window, (height, width) = config["window_size"], config["img_size"]
    maps = maps_of(config["img_size"], config["patch_size"], len(config["depths"]))
    if not (found := [own for own in maps if odd(*own, window)]):
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


def with_square_windows(theirs: Tensors) -> Tensors:
    """Theirs as they are. Raises `StoreError` where their tables of places tell of windows with two different sides."""
    for name, table in theirs.items():
        index = theirs.get(name.removesuffix(TABLE) + INDEX) if name.endswith(TABLE) else None
        if index is not None and index.numel() != side_of(table) ** 4:
            raise StoreError(f"{name} is of no square window: {SQUARE}.")
    return theirs


def whole_tables(ours: Tensors, known: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tables of windows that were cut to a small map, put in the middle of whole ones: what is new is never used there.

    Raises `StoreError` if the image size is needed for that and not known, or windows are smaller than others for
    another reason than their map.
    """
    tables = {name: tensor for name, tensor in ours.items() if name.endswith(TABLE)}
    if len({len(table) for table in tables.values()}) < 2 and all(map(side_of, tables.values())):
        return dict(ours)
    if "img_size" not in known:
        raise StoreError(
            "Some stages have smaller tables of biases than others: their windows were cut to their maps. Say the size "
            "of the images that the model was trained at: trained_at=(height, width)."
        )
    stages = {name: int(name.split(".")[1]) for name in tables}
    maps = maps_of(known["img_size"], patches_of(ours, "Swin")[2], 1 + max(stages.values()))
    most = max(*(side for own in maps for side in own), *(math.isqrt(len(table)) for table in tables.values()))
    for window in range(1, most + 1):
        sides = {name: sides_of(table, maps[stages[name]], window) for name, table in tables.items()}
        if all(sides.values()):
            return {**ours, **{name: grown(table, sides[name], window) for name, table in tables.items()}}
    window = max(map(side_of, tables.values()))
    name = next(name for name, table in tables.items() if not sides_of(table, maps[stages[name]], window))
    raise StoreError(f"Stage {stages[name]} has windows of {side_of(tables[name])}, others of {window}: not read.")


def sides_of(table: Tensor, own: tuple[int, int], window: int) -> tuple[int, ...]:
    """Rows and columns of the window that a table is of: whole, or cut to its map, or to the map's shorter side."""
    rows, columns = (min(side, window) for side in own)
    cuts = ((window, window), (rows, columns), (min(rows, columns),) * 2)
    return next((cut for cut in cuts if (2 * cut[0] - 1) * (2 * cut[1] - 1) == len(table)), ())


def grown(table: Tensor, sides: Sequence[int], window: int) -> Tensor:
    """A table of windows of these sides in the middle of that of whole ones."""
    (rows, columns), side = sides, 2 * window - 1
    whole = torch.zeros(side, side, table.shape[1], dtype=table.dtype)
    own = table.reshape(2 * rows - 1, 2 * columns - 1, -1)
    whole[window - rows : side - window + rows, window - columns : side - window + columns] = own
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


swin_source = partial(Source, family="swin", dropped=BUFFERS, settings=swin_of, sized=whole_tables)
