"""What watching CLS in every layer costs in a ViT-S on 4,097 tokens, against a plain forward and eager models.

Time: interleaved pairs in one process. Memory: the peak of a fresh process, weights and libraries included; of the two
that are compared the median of several, since the holes in the heap differ by 5 % from one process to the next. Without
these holes, each large tensor in pages of its own, two processes agree to 0.1 %: that is what the tensors need.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from statistics import median

import torch

from benchmarks.memory import peak
from benchmarks.paired import paired
from benchmarks.peers import timm
from vitral import create, watch

SIDE, ROUNDS = 1024, 21  # pixels: 64 x 64 patches of 16, and CLS
PROCESSES = 15
NO_HOLES = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


def subject(kind: str) -> Callable[[], object]:
    """One forward pass of a kind, to be run."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, SIDE, SIDE)
    if kind.startswith("Hugging Face"):
        import transformers

        sizes = dict(hidden_size=384, num_attention_heads=6, intermediate_size=1536, image_size=SIDE)
        config = transformers.ViTConfig(**sizes, attn_implementation="eager")
        model = transformers.ViTModel(config).eval()
        return lambda: model(images, output_attentions=True).attentions
    if kind.startswith("timm"):
        model = timm.create_model("vit_small_patch16_224", img_size=SIDE).eval()
        kept: list[torch.Tensor] = []
        for block in model.blocks:
            block.attn.fused_attn = False
            block.attn.attn_drop.register_forward_hook(lambda module, given, made: kept.append(made))

        def run() -> list[torch.Tensor]:
            kept.clear()
            model(images)
            return kept

        return run
    model = create("vit_small_patch16_224", img_size=SIDE).eval()
    if kind == "plain forward":
        return lambda: model(images)

    def watched() -> object:
        with watch(model) as seen:
            model(images)
        return [layer.rows([0]) for layer in seen.layers]

    return watched


KINDS = (
    "plain forward",
    "watched: CLS rows of all layers",
    "Hugging Face, eager, output_attentions",
    "timm, fused kernel off, weights kept",
)


def run() -> dict[str, object]:
    memory = {kind: peak_of(kind) for kind in KINDS}
    several = {kind: [memory[kind]] for kind in KINDS[:2]}
    for _ in range(PROCESSES - 1):
        for kind, found in several.items():
            found.append(peak_of(kind))
    memory |= {kind: median(found) for kind, found in several.items()}
    tensors = {kind: peak_of(kind, NO_HOLES) for kind in KINDS[:2]}
    for kind, peak_bytes in memory.items():
        print(f"   {kind:<42} {peak_bytes / 2**20:7.0f} MiB at most", flush=True)
    for found in (memory, tensors):
        print(f"   watched / plain, memory {found[KINDS[1]] / found[KINDS[0]]:.3f}")
    with torch.no_grad():
        time = paired(subject(KINDS[1]), subject(KINDS[0]), ROUNDS, warmup=1)
    print(f"   plain / watched {time['ratio']}", flush=True)
    return {
        "tokens": 4097,
        "processes": PROCESSES,
        "memory_bytes": memory,
        "memory_bytes_without_holes": tensors,
        "pairs": time,
    }


def peak_of(kind: str, environment: dict[str, str] | None = None) -> int:
    """The largest resident memory of a process that runs it once, in bytes."""
    command = [sys.executable, "-m", "benchmarks.watching", kind]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | (environment or {}))
    return int(json.loads(ran.stdout.splitlines()[-1]))


if __name__ == "__main__":
    with torch.no_grad():
        result = subject(sys.argv[1])()
    print(peak())
