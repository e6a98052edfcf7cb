"""PyTorch's compiler, `torch.compile`.

The code that it writes for a CPU is for one number of threads, and another number compiles again: only the largest is
tried.
"""

import torch

from vitral.base.numerics import compiles
from vitral.exporting.speed.way import Conditions, Forward, Job, Way, without_bfloat16
from vitral.exporting.speed.ways.eager import autocast


def in_float32(job: Job) -> Forward:
    assert job.model is not None
    return torch.compile(job.model)


def in_bfloat16(job: Job) -> Forward:
    return autocast(in_float32(job), job)


def without_compiler(conditions: Conditions) -> str:
    if compiles(conditions.device):
        return ""
    return "torch.compile needs a C++ compiler, and none was found: install g++ or clang"


def for_bfloat16(conditions: Conditions) -> str:
    return without_compiler(conditions) or without_bfloat16(conditions)


compiled = (
    Way(
        "compiled",
        "torch.compile",
        "float32",
        in_float32,
        devices=("cpu", "cuda"),
        refuses=without_compiler,
        any_threads=False,
    ),
    Way(
        "compiled-bf16",
        "torch.compile, autocast",
        "bfloat16",
        in_bfloat16,
        devices=("cpu", "cuda"),
        refuses=for_bfloat16,
        any_threads=False,
    ),
)
