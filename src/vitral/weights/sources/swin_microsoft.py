"""Swin as its authors wrote it (Liu et al. 2021): patches are merged at the end of a stage."""

from vitral.weights.reading.checkpoint_file import Checkpoint
from vitral.weights.source import IMAGENET, Config, Tensors, fixed_metadata
from vitral.weights.swin import check_square_windows, discrepancy_at, rules, shift_merging, swin_source


def recognises(checkpoint: Checkpoint) -> bool:
    names = checkpoint.tensors
    return "layers.0.blocks.0.attn.qkv.weight" in names and "layers.0.downsample.reduction.weight" in names


def prepare(theirs: Tensors) -> Tensors:
    return check_square_windows(shift_merging(theirs, 1))


def known_discrepancies(config: Config) -> tuple[str, ...]:
    does = (
        "does not shift a feature map whose shorter side is at most one window, and fails where windows do not divide "
        "the feature map"
    )

    def differs(rows: int, columns: int, window: int) -> bool:
        least = min(window, rows, columns)
        return bool(rows % least or columns % least) or (rows != columns and least in (rows, columns))

    return discrepancy_at("Microsoft's code", does, config, differs)


swin_microsoft = swin_source(
    "swin_microsoft",
    ("layers.0.blocks.0.attn.qkv.weight",),
    recognises,
    lambda tensors: rules("head"),
    fixed_metadata(IMAGENET | dict(crop=0.9), "as in Microsoft's code"),
    prepare=prepare,
    known_discrepancies=known_discrepancies,
)
