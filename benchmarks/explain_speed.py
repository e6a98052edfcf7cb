"""Seconds of `vitral explain` on one photograph at 224 pixels: to the picture on disk, and to the end of its test."""

import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from sklearn.datasets import load_sample_image

import vitral
from vitral.base.preprocessing import Preprocessing
from vitral.base.record import ModelRecord, attach_record
from vitral.tasks.progress import Progress

MODELS = ("vit_small_patch16_224", "vit_base_patch16_224")
TARGETS = {"vit_small_patch16_224": 20, "vit_base_patch16_224": 45}  # seconds, with the test
NOISE = 0.02  # added to the random weights, which answer every image alike otherwise
ROUNDS = 3


class Clock(Progress):
    """When the test began, before which the pictures are written."""

    drawn = float("nan")

    def note(self, text: str) -> None:
        super().note(text)
        if "testing" in text:
            self.drawn = time.perf_counter()


def run() -> dict[str, object]:
    results = []
    with tempfile.TemporaryDirectory() as home:
        photo = Path(home) / "china.png"
        save(photo)
        for name in MODELS:
            rounds = [timed(random_model(name), photo, Path(home) / "explained") for _ in range(ROUNDS)]
            median = sorted(rounds, key=lambda one: one["seconds"])[ROUNDS // 2]
            results.append({"model": name, "target_seconds": TARGETS[name], **median, "rounds": rounds})
            print(f"   {name}: picture {median['picture']:.1f} s, test {median['seconds']:.1f} s", flush=True)
    return {"threads": torch.get_num_threads(), "results": results}


def save(photo: Path) -> None:
    Image.fromarray(load_sample_image("china.jpg")).save(photo)


def random_model(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = vitral.create(name, num_classes=10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * NOISE)
    record = ModelRecord(tuple(str(index) for index in range(10)), Preprocessing(size=(224, 224)))
    return attach_record(model.eval(), record)


def timed(model: torch.nn.Module, photo: Path, out: Path) -> dict[str, object]:
    """Seconds to the picture and to the page, and the verdict."""
    clock, start = Clock(), time.perf_counter()
    found = vitral.explain_images(model, photo, out=out, progress=clock)
    seconds = time.perf_counter() - start
    (one,) = found.images[0].maps
    return {
        "picture": clock.drawn - start,
        "seconds": seconds,
        "verdict": one.trust.verdict,
        "sentence": one.trust.sentence,
    }
