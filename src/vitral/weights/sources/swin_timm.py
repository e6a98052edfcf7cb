"""timm's Swin: patches are merged at the start of a stage."""

from vitral.weights.reading import Contents
from vitral.weights.rules import Rule
from vitral.weights.source import Source, Tensors
from vitral.weights.sources.timm import known, writes
from vitral.weights.swin import rules as shared
from vitral.weights.swin import swin_of, whole_tables


def recognises(contents: Contents) -> bool:
    names = contents.tensors
    # without a head and merging, timm's and Microsoft's files are told apart by the stage that merges first
    return "layers.0.blocks.0.attn.qkv.weight" in names and "layers.0.downsample.reduction.weight" not in names


def rules(tensors: Tensors) -> list[Rule]:
    return shared("head.fc")


BUFFER = "a table of places that follows from the window"

swin_timm = Source(
    "swin_timm",
    recognises,
    rules,
    known,
    family="swin",
    dropped={
        "layers.{s}.blocks.{i}.attn.relative_position_index": BUFFER,
        "layers.{s}.blocks.{i}.attn_mask": BUFFER,
    },
    prepare=whole_tables,
    settings=swin_of,
    writes=writes,
)
