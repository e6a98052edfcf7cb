"""High resolution: windows, Swin, images of several sizes as one sequence, and merged tokens, in time and memory.

`python -m benchmarks.high_resolution PART...` runs some parts alone and prints their results; `PARTS` lists them.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from math import log
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.memory import peak
from benchmarks.paired import paired
from benchmarks.peers import timm, torchvision
from vitral import create
from vitral.nn.attention import Attention
from vitral.nn.families import construct
from vitral.nn.high_resolution.layouts import OneSequence, Padded
from vitral.nn.high_resolution.mixed_sizes import MixedSizes
from vitral.nn.high_resolution.token_merging import MergingViT
from vitral.nn.high_resolution.windowed import windowed
from vitral.nn.packed import packed
from vitral.nn.zoo import MODELS

SIDES = (512, 1024)
PASSES, PROCESSES = 2, 3  # forward and backward passes of a process, and processes of each kind


def explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention that forms its weights."""
    weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def vit(side: int) -> nn.Module:
    return create("vit_small_patch16_224", img_size=side)


def explicit_vit(side: int) -> nn.Module:
    model = vit(side)
    for part in model.modules():
        if isinstance(part, Attention):
            part.attend = explicit
    return model


KINDS: dict[str, Callable[[int], nn.Module]] = {
    "ViT-S/16, fused": vit,
    "ViT-S/16, explicit": explicit_vit,
    "ViT-S/16, windows": lambda side: windowed(vit(side)),
    "Swin-T": lambda side: create("swin_tiny_patch4_window7_224", img_size=side),
    "Swin-T, timm": lambda side: timm.create_model("swin_tiny_patch4_window7_224", img_size=side),
    "Swin-T, torchvision": lambda side: torchvision.models.swin_t(weights=None),
}


def forward_backward() -> dict[str, object]:
    """Seconds of a pass and memory above the start of each kind and side: medians over fresh processes, interleaved."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {(kind, side): [] for kind in KINDS for side in SIDES}
    for _ in range(PROCESSES):
        for (kind, side), results in found.items():
            command = [sys.executable, "-m", "benchmarks.high_resolution", "--pass", kind, str(side)]
            ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            results.append(json.loads(ran.stdout.splitlines()[-1]))
    rows = {
        kind: {
            side: {key: median(one[key] for one in found[kind, side]) for key in ("seconds", "bytes")}
            | {"all_seconds": [one["seconds"] for one in found[kind, side]]}
            for side in SIDES
        }
        for kind in KINDS
    }
    small, large = SIDES
    table = []
    for kind, sides in rows.items():
        seconds, memory = ([sides[side][key] for side in SIDES] for key in ("seconds", "bytes"))
        exponent = log(seconds[1] / seconds[0]) / log((large / small) ** 2)
        table.append(dict(kind=kind, exponent_in_pixels=round(exponent, 3), sides=sides))
        words = " ".join(f"{own:7.2f} s {held / 2**20:6.0f} MiB" for own, held in zip(seconds, memory))
        print(f"   {kind:<22} {words}  exponent {exponent:.2f}", flush=True)
    fused, written, local = (rows[f"ViT-S/16, {how}"][large] for how in ("fused", "explicit", "windows"))
    ratios = {
        "memory, explicit / fused": written["bytes"] / fused["bytes"],
        "seconds, explicit / fused": written["seconds"] / fused["seconds"],
        "seconds, fused / windows": fused["seconds"] / local["seconds"],
    }
    for name, ratio in ratios.items():
        print(f"   {large} px, {name}: {ratio:.2f}", flush=True)
    return dict(passes=PASSES, processes=PROCESSES, kinds=table, ratios=ratios)


def one_process(kind: str, side: int) -> dict[str, float]:
    """The fastest of `PASSES` passes forward and backward of one image, and the memory that they needed in all.

    Each pass leaves holes in the heap, so their number is fixed.
    """
    torch.manual_seed(0)
    model, images = KINDS[kind](side), torch.randn(1, 3, side, side)
    start, seconds = resident(), []
    for _ in range(PASSES):
        began = time.perf_counter()
        model(images).sum().backward()
        seconds.append(time.perf_counter() - began)
        model.zero_grad()
    return {"seconds": min(seconds), "bytes": peak() - start}


def resident() -> int:
    """Bytes resident now."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def swin(rounds: int = 7) -> dict[str, object]:
    """Swin-T at 1,024 px against the peers', forward, interleaved in one process; ours also packed."""
    side = SIDES[-1]
    torch.manual_seed(0)
    images = torch.randn(1, 3, side, side)
    ours = KINDS["Swin-T"](side).eval()
    peers = {
        "timm": timm.create_model("swin_tiny_patch4_window7_224", img_size=side).eval(),
        "timm, not fused": timm.create_model("swin_tiny_patch4_window7_224", img_size=side).eval(),
        "torchvision": torchvision.models.swin_t(weights=None).eval(),
    }
    for part in peers["timm, not fused"].modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    own = {"ours": ours, "ours, packed": packed(ours)}
    return {
        f"{peer} / {name}": compare(f"{peer} / {name}", run_on(mine, images), run_on(other, images), rounds)
        for name, mine in own.items()
        for peer, other in peers.items()
    }


def mixed_sizes(rounds: int = 15, count: int = 32) -> dict[str, object]:
    """One sequence against padding to the longest with a key mask: ViT-Ti/16, sides of 64 to 256 px."""
    generator = torch.Generator().manual_seed(0)
    sides = (16 * torch.randint(4, 17, (count, 2), generator=generator)).tolist()
    images = [torch.randn(3, *side, generator=generator) for side in sides]
    torch.manual_seed(0)
    model = construct("any_size", **MODELS["vit_tiny_patch16_224"].settings)
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    joined, padded = MixedSizes(model, OneSequence), MixedSizes(model, Padded)
    lengths = [1 + height * width // 256 for height, width in sides]
    tokens = max(lengths) * count / sum(lengths)
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in images])
        difference = float((joined(images) - alone).abs().max())
    print(f"   padded / real tokens {tokens:.3f}; differs from one by one by {difference:.1e}", flush=True)
    results: dict[str, Any] = {"images": count, "padded_per_real_token": tokens, "outputs_differ_by": difference}
    for what, work in {"forward": run_on, "forward and backward": train_on}.items():
        found = compare(f"padded / one sequence, {what}", work(joined, images), work(padded, images), rounds)
        results[what] = found | {"per_token_ratio": round(float(found["ratio"]) / tokens, 4)}
        print(f"      over that of the tokens: {results[what]['per_token_ratio']}", flush=True)
    return results


def merging(rounds: int = 11, batch: int = 8) -> dict[str, object]:
    """Token merging in a ViT-B/16 at 224 px against the same model without."""
    torch.manual_seed(0)
    model, images = create("vit_base_patch16_224").eval(), torch.randn(batch, 3, 224, 224)
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    with torch.no_grad():
        assert torch.equal(MergingViT(model, 0)(images), model(images)), "r = 0 is not the model itself"
    plain = run_on(model, images)
    return {
        f"r={r}": compare(f"r = {r}, without / with", run_on(MergingViT(model, r), images), plain, rounds)
        for r in (0, 8, 13, 16)
    }


def run_on(model: nn.Module, images: Any) -> Callable[[], object]:
    def work() -> None:
        with torch.inference_mode():
            model(images)

    return work


def train_on(model: nn.Module, images: Any) -> Callable[[], object]:
    def work() -> None:
        model(images).square().mean().backward()
        model.zero_grad()

    return work


def compare(name: str, mine: Callable[[], object], other: Callable[[], object], rounds: int) -> dict[str, Any]:
    found = paired(mine, other, rounds, warmup=1)
    low, high = found["interval"]  # type: ignore[misc]  # of two floats
    print(f"   {name}: {found['ratio']:.3f} ({low:.3f} to {high:.3f})", flush=True)
    return found


PARTS: dict[str, Callable[[], dict[str, object]]] = {
    part.__name__: part for part in (forward_backward, swin, mixed_sizes, merging)
}


def run() -> dict[str, object]:
    return {"threads": torch.get_num_threads()} | {name: part() for name, part in PARTS.items()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--pass"]:
        print(json.dumps(one_process(sys.argv[2], int(sys.argv[3]))))
    else:
        for name in sys.argv[1:] or PARTS:
            print(f"== {name}", flush=True)
            print(json.dumps(PARTS[name](), indent=2))
