"""Rollout of CLS on 4,097 tokens, 3 heads: row by row, by whole matrices, and the bound of forming the weights."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.memory import peak
from vitral import create, watch
from vitral.explain import rollout
from vitral.explain.flow import carry
from vitral.recording.layers import CHUNK

SIDE, ROUNDS = 1024, 3
# glibc gives every tensor pages of its own, so that what was freed is gone and no holes are counted as held.
PAGED = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def subject() -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = create("vit_tiny_patch16_224", img_size=SIDE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model, torch.randn(1, 3, SIDE, SIDE)


def by_rows() -> None:
    model, images = subject()
    rollout(model, images)


@torch.no_grad()
def forward() -> None:
    model, images = subject()
    model(images)


@torch.no_grad()
def run() -> dict[str, object]:
    model, images = subject()
    with watch(model, rows="all") as seen:
        model(images)
    layers = seen.layers

    def rows() -> torch.Tensor:
        row = torch.eye(layers[-1].num_tokens)[:1]
        for layer in reversed(layers):
            row = row / 2 + carry(layer, row, layer.chunks()) / 2
        return row

    def form() -> None:
        for layer in layers:
            for _, weights in layer.chunks():
                weights.sum()

    def matrices() -> torch.Tensor:
        eye = torch.eye(layers[0].num_tokens)
        whole = eye
        for layer in layers:
            whole = (layer.weights()[0].mean(0) / 2 + eye / 2) @ whole
        return whole[0]

    seconds: dict[str, list[float]] = {"rows": [], "forming the weights alone": [], "whole matrices": []}
    found = {}
    for turn in range(ROUNDS):
        for name, work in zip(seconds, (rows, form, matrices)):
            start = time.perf_counter()
            found[name] = work()
            seconds[name].append(time.perf_counter() - start)
        print(
            f"   round {turn}: " + ", ".join(f"{name} {took[-1]:.1f} s" for name, took in seconds.items()), flush=True
        )
    medians = {name: sorted(took)[ROUNDS // 2] for name, took in seconds.items()}
    memory, paged = memory_of({}), memory_of(PAGED)
    size = layers[0].num_tokens * 192 * len(layers) * 2 * 4
    return {
        "tokens": layers[0].num_tokens,
        "heads": 3,
        "seconds": medians,
        "speedup": medians["whole matrices"] / medians["rows"],
        "over_the_bound": medians["rows"] / medians["forming the weights alone"],
        "difference": float((found["rows"][0] - found["whole matrices"]).abs().max()),
        "memory_bytes": memory,
        "extra_bytes": memory["by_rows"] - memory["forward"],
        "extra_bytes_paged": paged["by_rows"] - paged["forward"],
        "q_and_k_bytes": size,
        "chunk_bytes": CHUNK * 4,
    }


def memory_of(environment: dict[str, str]) -> dict[str, int]:
    """The median peak of fresh processes."""
    peaks = [{work.__name__: peak_of(work, environment) for work in (forward, by_rows)} for _ in range(ROUNDS)]
    return {name: sorted(each[name] for each in peaks)[ROUNDS // 2] for name in peaks[0]}


def peak_of(work: Callable[[], None], environment: dict[str, str]) -> int:
    command = [sys.executable, "-m", "benchmarks.rolling", work.__name__]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | environment)
    return int(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    {"forward": forward, "by_rows": by_rows}[sys.argv[1]]()
    print(peak())
