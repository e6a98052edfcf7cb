"""Swin as its authors wrote it: patches are merged at the end of a stage, and tables of places are stored (Liu et al.
2021)."""

import re

from vitral.weights.architecture import IMAGENET, Known
from vitral.weights.reading import Contents
from vitral.weights.rules import Rule
from vitral.weights.source import Config, Tensors
from vitral.weights.swin import moved, otherwise, swin_source, with_square_windows
from vitral.weights.swin import rules as shared

MERGING = re.compile(r"layers\.(\d+)\.downsample\.")


def recognises(contents: Contents) -> bool:
    names = contents.tensors
    return "layers.0.blocks.0.attn.qkv.weight" in names and "layers.0.downsample.reduction.weight" in names


def rules(tensors: Tensors) -> list[Rule]:
    return shared("head")


def prepare(theirs: Tensors) -> Tensors:
    return with_square_windows(moved(theirs, MERGING, 1))


def known(contents: Contents) -> Known:
    return Known(
        preprocessing=IMAGENET | dict(crop=0.9),
        assumed=("pixels of ImageNet's mean and deviation, the middle 0.9",),
    )


def unlike(config: Config) -> tuple[str, ...]:
    does = "does not shift a map whose shorter side is at most one window, and fails where windows do not divide one"

    def odd(rows: int, columns: int, window: int) -> bool:
        least = min(window, rows, columns)
        return bool(rows % least or columns % least) or (rows != columns and least in (rows, columns))

    return otherwise("Microsoft's code", does, config, odd)


swin_microsoft = swin_source(
    "swin_microsoft",
    recognises,
    rules,
    known,
    prepare=prepare,
    unlike=unlike,
)
