"""Exported models against eager fp32: speed and agreement: `python -m benchmarks.exported [smoke|full]`.

A ViT of 5.4 million parameters is trained on Fashion-MNIST at 64 pixels and exported to ONNX Runtime and OpenVINO in
each precision; each file answers 2,000 test images, and says how many first classes are the model's. ViT-B/16 at 224
pixels, with random weights, is measured for its speed only. All ways of one model run in turns, in batches of 8, each
with one thread and with all; a way's time is the better of its two medians, and ratios are eager fp32 over it. 500
pictures of any size and mode, of Debian's package `openclipart-png` where it is installed, go from the decoded file to
the answer, in float32. Without Debian's package `dataset-fashion-mnist` nothing runs, and a sentence says so.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import vitral
from benchmarks.adapt import write_splits
from benchmarks.fashion_mnist import CLASSES, SOURCE
from vitral.base.errors import VitralError
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.data.image import load_image
from vitral.exporting.verify import verify
from vitral.nn.packed import packed
from vitral.store.classifier import answers
from vitral.store.runtimes.session import Precision, Runtime

WAYS: tuple[tuple[Runtime, Precision], ...] = (
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
TARGETS = {"openvino bf16": 2.2, "openvino int8": 3.0, "packed bf16": 1.8}
BATCH = 8
PICTURES, COUNT = Path("/usr/share/openclipart/png"), 500
NEAR = 0.02  # probabilities of the two best classes, within which bf16 may choose the other
# training images, test images, epochs, rounds, the second model and its side
PRESETS: dict[str, tuple[int, int, int, int, str, int]] = {
    "smoke": (500, 200, 1, 3, "vit_tiny_patch16_224", 96),
    "full": (20_000, 2000, 6, 15, "vit_base_patch16_224", 224),
}


def run(preset: str = "full") -> dict[str, Any] | None:
    """Agreement and speed of every way; None without the package."""
    if not SOURCE.is_dir():
        print(f"{SOURCE} is not there: apt-get install dataset-fashion-mnist. Nothing was run.")
        return None
    train, test, epochs, rounds, shape, side = PRESETS[preset]
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        data = write_splits(home / "clothes", CLASSES, {"train": train, "val": 1000, "test": test})
        settings = dict(model="vit_tiny_patch16_224", img_size=64, epochs=epochs, agreed=True, out=home / "run")
        trained = vitral.train(data=str(data), **settings)
        print(f"   {trained.summary}", flush=True)
        model = vitral.load(home / "run")
        loaded, refused = exported(home / "run", home / "exported", None)
        images = vitral.data.folder.folder(data, model.preprocessing).test.pixels
        found: dict[str, Any] = {
            "trained": {
                "parameters": sum(part.numel() for part in model.parameters()),
                "accuracy": trained.test_accuracy,
                "agreement": agreements(model, loaded, images),
                "refused": refused,
                "pictures": pictures(model, loaded),
                "speed": speeds(model, loaded, rounds),
            }
        }
        large = drawn(vitral.create(shape, num_classes=len(CLASSES), img_size=side))
        loaded, refused = exported(large, home / "large", data / "test")
        found["shape"] = {"model": shape, "side": side, "refused": refused, "speed": speeds(large, loaded, rounds)}
    return found | {"preset": preset, "batch": BATCH, "targets": TARGETS}


def drawn(model: Any) -> Any:
    """The model with random weights in every layer: a new one's last projections are zero, which 8 bits would keep."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.02)
    side = model.preprocessing.size
    return attach_record(model.eval(), ModelRecord(CLASSES, Preprocessing(side)))


def exported(model: Any, home: Path, calibrate: Path | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Each way as a model, and why one could not be exported. Random weights give any answer: theirs are kept."""
    loaded, refused = {}, {}
    for to, precision in WAYS:
        name, least = f"{to} {precision}", 0.99 if calibrate is None else 0.01
        images = calibrate if precision == "int8" else None
        try:
            found = vitral.export(model, home / name, to=to, precision=precision, calibrate=images, min_agreement=least)
        except VitralError as error:
            refused[name] = str(error)
            print(f"   {name}: {error}", flush=True)
            continue
        print(f"   {name}: {found.quantised.text if found.quantised else found.agreement.text}", flush=True)
        loaded[name] = home / name
    return loaded, refused


def agreements(model: Any, loaded: dict[str, Path], images: np.ndarray) -> dict[str, Any]:
    """Of the model's first classes, how many each way gives, and how many of the others are not nearly as likely."""
    own, found = answers(model, images), {}
    for name, folder in loaded.items():
        other = answers(vitral.load(folder), images)
        chosen = np.take_along_axis(own, other.argmax(1)[:, None], 1)[:, 0]
        found[name] = {
            "images": len(images),
            "same": float((own.argmax(1) == other.argmax(1)).mean()),
            "same_or_near": float((chosen >= own.max(1) - NEAR).mean()),
            "largest_difference": float(np.abs(own - other).max()),
        }
        print(f"   {name}: {found[name]}", flush=True)
    return found


def pictures(model: Any, loaded: dict[str, Path]) -> dict[str, Any]:
    """How far the float32 files are from the model on real pictures, drawn at random, from the decoded file on."""
    files = sorted(PICTURES.rglob("*.png"))
    drawn_files = [files[number] for number in np.random.default_rng(0).permutation(len(files))[:COUNT]]
    found: dict[str, Any] = {}
    for runtime in ("onnx", "openvino") if files else ():
        decoded = ((file.name, load_image(file)) for file in drawn_files)
        agreement = verify(model, loaded[f"{runtime} fp32"], decoded, runtime)
        found[runtime] = agreement.to_json()
        print(f"   {runtime} fp32, pictures: {agreement.text}", flush=True)
    return found


def speeds(model: Any, loaded: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Median seconds of each way in turns, with its better number of threads, and how often eager fp32 takes them."""
    images = torch.randn(BATCH, 3, *model.preprocessing.size, generator=torch.Generator().manual_seed(0))
    before, times = torch.get_num_threads(), dict[tuple[str, int], list[float]]()
    counts = sorted({1, os.cpu_count() or 1})
    ways: dict[tuple[str, int], Callable[[torch.Tensor], Any]] = {}
    in_bf16 = packed(model).to(torch.bfloat16)
    for threads in counts:
        torch.set_num_threads(threads)  # a session takes the number that PyTorch has when it is opened
        ways |= {(name, threads): vitral.load(folder) for name, folder in loaded.items()}
        ways |= {("eager fp32", threads): model, ("packed fp32", threads): packed(model)}
        ways["packed bf16", threads] = lambda batch: in_bf16(batch.bfloat16())
    with torch.inference_mode():
        for turn in range(-2, rounds):  # two to warm up
            for key, way in ways.items():
                torch.set_num_threads(key[1])
                start = time.perf_counter()
                way(images)
                if turn >= 0:
                    times.setdefault(key, []).append(time.perf_counter() - start)
    torch.set_num_threads(before)
    best = {name: min((float(np.median(times[name, threads])), threads) for threads in counts) for name, _ in ways}
    found = {
        name: {
            "images_per_second": round(BATCH / seconds, 2),
            "threads": threads,
            "ratio": round(best["eager fp32"][0] / seconds, 3),
        }
        for name, (seconds, threads) in best.items()
    }
    for name, figures in found.items():
        print(f"   {name}: {figures}", flush=True)
    return found


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:] or ["smoke"]), indent=1))
