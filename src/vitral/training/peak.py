"""The peak of this machine: how many operations per second it does in one large matrix product (GEMM)."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

SECONDS = 0.5
SMALLEST, LARGEST = 256, 8192
LONG = 0.005  # seconds of a product that is large enough


@dataclass(frozen=True)
class Peak:
    """Floating-point operations per second in the best of `count` products of two matrices of `size` x `size`."""

    flops: float
    size: int
    count: int
    threads: int


def measure_peak(device: str, precision: str, seconds: float = SECONDS) -> Peak:
    """Multiply matrices in a precision, with this process's threads, for about so many seconds."""
    generator = torch.Generator(device).manual_seed(0)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    size, taken, start = SMALLEST, list[float](), time.perf_counter()
    with torch.inference_mode():
        while True:
            one, other = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
            time_product(one, other)  # not counted: the first one of a size prepares its kernel
            taken = [time_product(one, other) for _ in range(3)]
            if min(taken) >= LONG or 2 * size > LARGEST:
                break
            size *= 2
        while time.perf_counter() - start < seconds:
            taken.append(time_product(one, other))
    return Peak(2.0 * size**3 / min(taken), size, len(taken), torch.get_num_threads())


def time_product(one: Tensor, other: Tensor) -> float:
    """Seconds of a product; on a GPU the mean of ten that are queued, since starting one takes time, too."""
    products = 10 if one.is_cuda else 1
    if one.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(products):
        one @ other
    if one.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / products
