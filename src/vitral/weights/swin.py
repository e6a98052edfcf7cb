"""What Swin's tensors say about its architecture, and names that are shared by its sources.

Heads and windows are in the tables of biases; the image size is not, since Swin takes any.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vitral.base.errors import StoreError
from vitral.weights.rules import Rule, rule

Tensors = Mapping[str, Tensor]
TABLE = "attn.relative_position_bias_table"


def swin_of(tensors: Tensors, known: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the `SwinTransformer` that these tensors are of. Raises `StoreError` where something is missing."""
    if "patch_embed.proj.weight" not in tensors:
        raise StoreError("The checkpoint has nothing that is patch_embed.proj.weight of a Swin.")
    embed_dim, in_channels, *patch = tensors["patch_embed.proj.weight"].shape
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
        patch_size=tuple(patch),
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
        raise StoreError(f"A table of biases with {len(table)} rows is of no square window.")
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


def whole_tables(ours: Tensors) -> Tensors:
    """Tables of windows that were cut to a small grid, put in the middle of whole ones: what is new is never used."""
    tables = {name: tensor for name, tensor in ours.items() if name.endswith(TABLE)}
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
