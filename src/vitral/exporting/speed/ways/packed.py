"""PyTorch with weights that were prepared once: `vitral.nn.packed`."""

import torch

from vitral.exporting.speed.way import Conditions, Forward, Job, Way, without_bfloat16
from vitral.exporting.speed.ways.eager import autocast
from vitral.nn.packed import packed as packed_copy


def in_float32(job: Job) -> Forward:
    assert job.model is not None
    return packed_copy(job.model)


def in_bfloat16(job: Job) -> Forward:
    assert job.model is not None
    return autocast(packed_copy(job.model, torch.bfloat16), job)


def without_onednn(conditions: Conditions) -> str:
    return "" if torch.backends.mkldnn.is_available() else "this PyTorch was built without oneDNN"


packed = (
    Way("packed", "PyTorch, weights packed", "float32", in_float32, refuses=without_onednn),
    Way("packed-bf16", "PyTorch, weights packed", "bfloat16", in_bfloat16, refuses=without_bfloat16),
)
