"""Reading a folder of JPEGs: the first pass, later epochs with a model, and the memory of many images.

2,000 JPEGs of 500 x 375 pixels, cut from scikit-learn's two photographs, for training at 64 pixels. timm and the
Trainer of Hugging Face decode in two worker processes, with the random crop and the mirroring that Vitral draws from
its cache; no other change of colours. All at two threads in all, in turns.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn

from benchmarks.memory import anonymous, most_anonymous
from benchmarks.peers import timm
from vitral.base.lookup import find
from vitral.base.preprocessing import Preprocessing
from vitral.data.batches import batches
from vitral.data.folder import folder
from vitral.data.image import load_image
from vitral.data.pixel_cache import PixelCache
from vitral.data.preprocess import crop_and_resize
from vitral.nn.vit import VisionTransformer

IMAGES, SIDE, BATCH, WORKERS, ROUNDS = 2000, 64, 64, 2, 3
MODELS = {
    "ViT-Ti/8": dict(embed_dim=192, depth=12, num_heads=3),
    "4 blocks of width 64, patch 8": dict(embed_dim=64, depth=4, num_heads=4),
}
STEPS = {"ViT-Ti/8": 8, "4 blocks of width 64, patch 8": 30}
MANY, LARGE_SIDE = int(os.environ.get("VITRAL_MANY", "35000")), 224


def paint(home: Path, count: int, size: tuple[int, int]) -> Path:
    """JPEGs in two class folders, each another part of one of the two photographs."""
    pictures = load_sample_images().images
    draw = np.random.default_rng(0)

    def save(number: int) -> None:
        top, left = place[number]
        picture = Image.fromarray(pictures[number % 2][top : top + 300, left : left + 400])
        picture.resize(size, Image.Resampling.BILINEAR).save(home / "ab"[number % 2] / f"{number}.jpg", quality=90)

    place = draw.integers(0, (127, 240), (count, 2))
    for name in "ab":
        (home / name).mkdir(parents=True)
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(save, range(count)))
    return home


def first_pass(home: Path) -> dict[str, Any]:
    """Images a second until all have been read once."""
    asked = Preprocessing(size=(SIDE, SIDE))
    files = sorted(home.rglob("*.jpg"))

    def ours() -> None:
        with tempfile.TemporaryDirectory() as kept:
            data = folder(home, asked, cache=PixelCache(Path(kept)))
            for split in ("train", "val", "test"):
                data.load(split)

    def before() -> None:
        """Each file decoded whole, into a list that is stacked."""
        with ThreadPoolExecutor() as pool:
            np.stack(list(pool.map(lambda file: crop_and_resize(load_image(file), asked), files)))

    def theirs() -> None:
        for _ in timm_loader(home):
            pass

    ways: dict[str, Callable[[], None]] = {"ours": ours, "decoded whole": before, "timm": theirs}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, act in ways.items():
            start = time.perf_counter()
            act()
            rates[name].append(round(len(files) / (time.perf_counter() - start), 1))
    ratios = {name: round(median(a / b for a, b in zip(rates["ours"], rates[name])), 2) for name in list(ways)[1:]}
    print(f"   first pass, images/s: {rates}; ours / theirs {ratios}", flush=True)
    return {"images/s": rates, "ours / theirs": ratios}


def timm_loader(home: Path) -> Any:
    data = timm.data.create_dataset("", root=str(home), is_training=True)
    return timm.data.create_loader(
        data,
        (3, SIDE, SIDE),
        BATCH,
        is_training=True,
        use_prefetcher=False,
        color_jitter=None,
        scale=(0.35, 1.0),
        num_workers=WORKERS,
        pin_memory=False,
        persistent_workers=True,
    )


def later_epochs(home: Path) -> dict[str, Any]:
    """Images a second of training steps, once everything has been read before."""
    return {name: rates_of(name, home) for name in MODELS}


def rates_of(name: str, home: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as kept:
        data = folder(home, Preprocessing(size=(SIDE, SIDE)), cache=PixelCache(Path(kept)))
        photo, loader = find("data.augmentation", "photo", "augmentation"), timm_loader(home)
        ways: dict[str, Callable[[], Any]] = {
            "ours": partial(batches, data.train, data.preprocessing, BATCH, 0, photo),
            "timm": partial(iter, loader),
        }
        rates: dict[str, list[float]] = {way: [] for way in [*ways, "Trainer"]}
        for _ in range(ROUNDS):
            for way, feed in ways.items():
                rates[way].append(training_rate(new_model(MODELS[name]), feed(), STEPS[name]))
            rates["Trainer"].append(trainer_rate(new_model(MODELS[name]), home, STEPS[name]))
    ratios = {way: round(median(a / b for a, b in zip(rates["ours"], rates[way])), 2) for way in list(rates)[1:]}
    print(f"   later epochs, {name}, images/s: {rates}; ours / theirs {ratios}", flush=True)
    return {"images/s": rates, "ours / theirs": ratios}


def new_model(shape: dict[str, int]) -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(img_size=SIDE, patch_size=8, num_classes=2, **shape)


def training_rate(model: nn.Module, feed: Iterator[tuple[torch.Tensor, torch.Tensor]], steps: int) -> float:
    """Of `steps` steps after two that are not counted, which start workers."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    start = 0.0
    for number, (images, labels) in enumerate(islice(feed, steps + 2)):
        if number == 2:
            start = time.perf_counter()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return round(steps * BATCH / (time.perf_counter() - start), 1)


class WithLoss(nn.Module):
    """A model as the Trainer wants it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.model(images)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def trainer_rate(model: nn.Module, home: Path, steps: int) -> float:
    """Of the Trainer's own steps, after two that are not counted."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2
    from transformers import Trainer, TrainerCallback, TrainingArguments

    changes = [
        v2.RandomResizedCrop(SIDE, scale=(0.35, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.5] * 3, [0.5] * 3),
    ]
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as out:
        options = TrainingArguments(
            out,
            per_device_train_batch_size=BATCH,
            max_steps=steps + 2,
            dataloader_num_workers=WORKERS,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
        )
        data = ImageFolder(str(home), v2.Compose(changes))
        trainer = Trainer(WithLoss(model), options, train_dataset=data, data_collator=collate, callbacks=[Clock()])
        trainer.train()
    return round(steps * BATCH / (times[-1] - times[1]), 1)


def collate(examples: list[tuple[torch.Tensor, int]]) -> dict[str, torch.Tensor]:
    return {
        "images": torch.stack([image for image, _ in examples]),
        "labels": torch.tensor([label for _, label in examples]),
    }


def memory() -> dict[str, Any]:
    """The most anonymous memory while many images are read and batches drawn, above what there was before."""
    with tempfile.TemporaryDirectory() as place:
        home = paint(Path(place) / "photos", MANY, (240, 240))
        asked = Preprocessing(size=(LARGE_SIDE, LARGE_SIDE))
        before, start = anonymous(), time.perf_counter()
        with most_anonymous() as found:
            data = folder(home, asked, cache=PixelCache(Path(place) / "kept"))
            for split in ("train", "val", "test"):
                data.split(split)
            read = time.perf_counter() - start
            feed = batches(data.train, asked, BATCH, 0, find("data.augmentation", "photo", "augmentation"))
            for _ in islice(feed, 20):
                pass
        result = {
            "images": MANY,
            "side": LARGE_SIDE,
            "GB of pixels": round(MANY * LARGE_SIDE**2 * 3 / 1e9, 2),
            "most anonymous GB": round(found[-1] / 1e9, 2),
            "above before, GB": round((found[-1] - before) / 1e9, 2),
            "seconds to read": round(read, 1),
        }
    print(f"   {result}", flush=True)
    return result


def run() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as place:
        home = paint(Path(place) / "photos", IMAGES, (500, 375))
        parts = {"first pass": first_pass, "later epochs": later_epochs}
        found: dict[str, object] = {name: partial(part, home)() for name, part in parts.items()}
    return found | {"memory": memory(), "threads": torch.get_num_threads()}
