"""The `vitral train` loop as a whole, its data, logging, evaluation and saving included, against its bare step."""

import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.command import vitral
from vitral.data.batches import batches
from vitral.data.augmentation.none import none
from vitral.data.synthetic.shapes import shapes
from vitral.nn.zoo import create
from vitral.train.optim import optimizers
from vitral.train.recipe import Recipe

STEPS = 300


def run() -> dict[str, object]:
    """Images a second, in turns: bare, whole, bare, whole, bare."""
    bare, whole = [], []
    for turn in range(5):
        (whole if turn % 2 else bare).append(whole_loop() if turn % 2 else bare_steps())
        print(f"   bare {['%.0f' % x for x in bare]}  whole {['%.0f' % x for x in whole]} images/s", flush=True)
    middle = sorted(bare)[len(bare) // 2]
    ratio = sum(whole) / len(whole) / middle
    return {"steps": STEPS, "bare": bare, "whole": whole, "ratio": round(ratio, 4)}


def bare_steps() -> float:
    recipe = Recipe()
    torch.manual_seed(0)
    data = shapes(n=STEPS * recipe.batch_size)
    model = create(recipe.model, num_classes=8)
    movers = optimizers(model, recipe)
    feed = list(islice(batches(data.train, data.preprocessing, recipe.batch_size, 0, none), 20))
    start = time.perf_counter()
    for step in range(STEPS):
        images, labels = feed[step % len(feed)]
        F.cross_entropy(model(images), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for mover in movers:
            mover.step()
            mover.zero_grad()
    return STEPS * recipe.batch_size / (time.perf_counter() - start)


def whole_loop() -> float:
    with tempfile.TemporaryDirectory() as home:
        images = STEPS * Recipe().batch_size
        result = vitral("train", "--data", f"shapes:n={images}", "--epochs", "1", "--out", str(Path(home) / "run"))
        return images / result["seconds"]
