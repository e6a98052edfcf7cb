"""The architecture of a Swin as its tensors show it, and names that its sources share.

Heads and windows are in the tables of relative position biases; the image size is not, since Swin takes any. Unless it
is given, it is the smallest for which every stage's map is whole windows.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitral.base.errors import StoreError
from vitral.weights.rules import Rule, rule
from vitral.weights.source import Source
from vitral.weights.vit import patch_sizes

Tensors = Mapping[str, Tensor]
TABLE = "attn.relative_position_bias_table"
INDEX = "attn.relative_position_index"
MERGING = re.compile(r"(?<=layers\.)\d+(?=\.downsample\.)")  # the stage of a layer that merges patches
BUFFERS = dict.fromkeys(("{m}relative_position_index", "{m}attn_mask"), "a buffer that follows from the window")
SQUARE = "Vitral's Swin has square windows"


def swin_settings(tensors: Tensors, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the `SwinTransformer` that these tensors are of. Raises `StoreError` where something is missing."""
    embed_dim, in_channels, patch = patch_sizes(tensors, "Swin")
    places = [
        (int(found[1]), int(found[2]))
        for name in tensors
        if (found := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name))
    ]
    stages = 1 + max((stage for stage, _ in places), default=-1)
    depths = tuple(1 + max((block for own, block in places if own == stage), default=-1) for stage in range(stages))
    tables = [tensors.get(f"layers.{stage}.blocks.0.{TABLE}") for stage in range(stages)]
    if not stages or any(table is None for table in tables):
        raise StoreError("The checkpoint has no Swin blocks, or blocks without a table of relative position biases.")
    # A window that was cut to a small map is smaller than the model's, so the largest is the one that was set.
    window = max(window_side(table) for table in tables if table is not None)
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
    ) | dict(given)


def window_side(table: Tensor) -> int:
    """The window of a table with (2w - 1)² rows."""
    side = math.isqrt(len(table))
    if side * side != len(table) or side % 2 == 0:
        raise StoreError(f"A bias table of {len(table)} rows does not belong to a square window: {SQUARE}.")
    return (side + 1) // 2


def stage_maps(size: Sequence[int], patch: Sequence[int], stages: int) -> list[tuple[int, int]]:
    """Rows and columns of each stage's map, for images of this size."""
    # Rounded up: Vitral pads an image to whole patches, and a map to an even number of rows before it merges them.
    sides = [-(-length // own) for length, own in zip(size, patch)]
    return [(-(-sides[0] // (1 << stage)), -(-sides[1] // (1 << stage))) for stage in range(stages)]


def discrepancy_at(
    publisher: str, does: str, config: Mapping[str, Any], differs: Callable[[int, int, int], bool]
) -> tuple[str, ...]:
    """A note that the publisher's code computes something else for images of this size, if it does.

    `does` says what it does to a map for which `differs(rows, columns, window)` is true, for any stage's map. The note
    names sizes at which the two are the same.
    """
    window, (height, width) = config["window_size"], config["img_size"]
    maps = stage_maps(config["img_size"], config["patch_size"], len(config["depths"]))
    if not (found := [own for own in maps if differs(*own, window)]):
        return ()
    # At these sizes every stage's map is whole windows, so that nothing is padded or cut.
    sides = [(own << (len(config["depths"]) - 1)) * window for own in config["patch_size"]]
    exact = " and ".join(f"{times * sides[0]} x {times * sides[1]}" for times in (1, 2))
    return (
        f"{publisher} differs from Vitral for images of {height} x {width}: it {does}, and one feature map is "
        f"{found[0][0]} x {found[0][1]}, with windows of {window}. The two agree for images of {exact}, and so on",
    )


def is_smaller(rows: int, columns: int, window: int) -> bool:
    """Whether a map is smaller than a window."""
    return min(rows, columns) < window


def cropped_pixels(publisher: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """A note that the publisher's code crops images to whole patches, where ours pads them, if this size differs."""
    height, width = config["img_size"]
    if not (height % config["patch_size"][0] or width % config["patch_size"][1]):
        return ()
    return (f"{publisher} crops images of {height} x {width} to whole patches, where Vitral pads them",)


def check_square_windows(theirs: Tensors) -> Tensors:
    """Theirs as they are. Raises `StoreError` where their index buffers show windows that are not square."""
    for name, table in theirs.items():
        # The table of a 1 x 5 window has 9 rows, as that of 2 x 2. Its index has one entry per pair of tokens, 25 or 16
        index = theirs.get(name.removesuffix(TABLE) + INDEX) if name.endswith(TABLE) else None
        if index is not None and index.numel() != window_side(table) ** 4:
            raise StoreError(f"{name} does not belong to a square window: {SQUARE}.")
    return theirs


def complete_tables(ours: Tensors, given: Mapping[str, Any]) -> dict[str, Tensor]:
    """Ours, with the bias tables of windows that were cut to a small map padded to whole windows.

    The padding is never used at the trained size: two tokens of such a map are never that far apart. Raises
    `StoreError` if the image size is needed and not given, or if a window is smaller for another reason than its map.
    """
    tables = {name: tensor for name, tensor in ours.items() if name.endswith(TABLE)}
    # Tables of one size were not cut, or all alike: the model has that window.
    if len({len(table) for table in tables.values()}) < 2 and all(map(window_side, tables.values())):
        return dict(ours)
    if "img_size" not in given:
        raise StoreError(
            "Some stages have smaller bias tables than others: their windows were reduced to the size of their feature "
            "maps. Specify the size of the training images: trained_at=(height, width)."
        )
    stages = {name: int(name.split(".")[1]) for name in tables}
    maps = stage_maps(given["img_size"], patch_sizes(ours, "Swin")[2], 1 + max(stages.values()))
    most = max(*(side for own in maps for side in own), *(math.isqrt(len(table)) for table in tables.values()))
    # The window that was set is not in the file: take the smallest that every stage's table can have been cut from.
    for window in range(1, most + 1):
        sides = {name: window_sides(table, maps[stages[name]], window) for name, table in tables.items()}
        if all(sides.values()):
            return {**ours, **{name: pad_table(table, sides[name], window) for name, table in tables.items()}}
    window = max(map(window_side, tables.values()))
    name = next(name for name, table in tables.items() if not window_sides(table, maps[stages[name]], window))
    raise StoreError(
        f"Stage {stages[name]} has windows of {window_side(tables[name])}, others of {window}: not supported."
    )


def window_sides(table: Tensor, own: tuple[int, int], window: int) -> tuple[int, ...]:
    """Rows and columns of a table's window: whole, or cut to its map, or to the map's shorter side; () if none fits."""
    rows, columns = (min(side, window) for side in own)
    cuts = ((window, window), (rows, columns), (min(rows, columns),) * 2)
    return next((cut for cut in cuts if (2 * cut[0] - 1) * (2 * cut[1] - 1) == len(table)), ())


def pad_table(table: Tensor, sides: Sequence[int], window: int) -> Tensor:
    """The bias table of a window of these sides, in the middle of one of a whole window."""
    (rows, columns), side = sides, 2 * window - 1
    whole = torch.zeros(side, side, table.shape[1], dtype=table.dtype)
    own = table.reshape(2 * rows - 1, 2 * columns - 1, -1)
    # The middle of a table is the offset (0, 0), wherever the window ends, so offsets keep their biases.
    whole[window - rows : side - window + rows, window - columns : side - window + columns] = own
    return whole.flatten(0, 1)


def rules(head: str) -> list[Rule]:
    """Names that timm and Microsoft share, which are also ours; `head` is the path of the classifier."""
    block = ("norm{j}.{p}", "attn.qkv.{p}", "attn.proj.{p}", "mlp.fc{j}.{p}", TABLE)
    return [
        rule("patch_embed.proj.{p}"),
        rule("patch_embed.norm.{p}"),
        *(rule(f"layers.{{s}}.blocks.{{i}}.{name}") for name in block),
        rule("layers.{s}.downsample.norm.{p}"),
        rule("layers.{s}.downsample.reduction.{p}"),
        rule("norm.{p}"),
        rule("head.{p}", f"{head}.{{p}}"),
    ]


def shift_merging(tensors: Tensors, step: int) -> dict[str, Tensor]:
    """The tensors with the layers that merge patches `step` stages later."""
    return {MERGING.sub(lambda stage: str(int(stage[0]) + step), name): tensor for name, tensor in tensors.items()}


swin_source = partial(Source, family="swin", dropped=BUFFERS, settings=swin_settings, complete=complete_tables)
