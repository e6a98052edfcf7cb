"""PyTorch, operator by operator: the reference of all other ways, and the same under autocast."""

import torch

from vitral.exporting.speed.way import Forward, Job, Way, without_bfloat16


def in_float32(job: Job) -> Forward:
    assert job.model is not None
    return job.model


def in_bfloat16(job: Job) -> Forward:
    return autocast(in_float32(job), job)


def autocast(model: Forward, job: Job) -> Forward:
    """The model under autocast in bfloat16."""

    def forward(images: torch.Tensor) -> object:
        with torch.autocast(job.device, torch.bfloat16):
            return model(images)

    return forward


eager = (
    Way("eager", "PyTorch", "float32", in_float32, devices=("cpu", "cuda")),
    Way("eager-bf16", "PyTorch, autocast", "bfloat16", in_bfloat16, devices=("cpu", "cuda"), refuses=without_bfloat16),
)
