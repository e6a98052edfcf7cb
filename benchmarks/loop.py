"""The `vitral train` loop as a whole, its data, logging, evaluation and saving included, against its bare step."""

import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.command import vitral
from vitral.data.augmentation.none import none
from vitral.data.batches import batches
from vitral.data.synthetic.shapes import shapes
from vitral.nn.zoo import create
from vitral.training.optim import optimizers
from vitral.training.recipe import Recipe

STEPS = 300


def run() -> dict[str, object]:
    """Images a second, in turns: bare steps, a whole `vitral train` with no options, bare steps again."""
    bare, whole = [], []
    for turn in range(7):
        (whole if turn % 2 else bare).append(whole_run() if turn % 2 else bare_steps())
        print(f"   bare {[round(x) for x in bare]}  whole {[round(x) for x in whole]} images/s", flush=True)
    pairs = [2 * rate / (before + after) for rate, before, after in zip(whole, bare, bare[1:])]
    return {
        "bare_steps": STEPS,
        "bare": bare,
        "whole": whole,
        "pairs": pairs,
        "ratio": round(sum(pairs) / len(pairs), 4),
    }


def bare_steps() -> float:
    """Forward, backward, clip, update, on batches that are in memory as the model reads them."""
    recipe = Recipe()
    torch.manual_seed(0)
    data = shapes(n=20 * recipe.batch_size)
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


def whole_run() -> float:
    """Data, augmentation, logging, evaluations, checkpoints and the film included; not the report at the end."""
    with tempfile.TemporaryDirectory() as home:
        result = vitral("train", "--out", str(Path(home) / "run"))
        return result["steps"] * Recipe().batch_size / result["seconds"]
