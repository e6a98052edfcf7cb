"""On how many images of `cued` the object's mask, occlusion and noise are better than chance, by the model's own test.

Trains `vitral train --data cued --seed S` where `runs/cued-seed-S` is not there yet: 22 minutes on one thread.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.command import vitral
from vitral import explain, load
from vitral.data.preprocess import normalise
from vitral.data.synthetic.cued import cued
from vitral.explain.observation import observe
from vitral.explain.trials import Trials

SEEDS, IMAGES = (0,), 30


def run() -> dict[str, object]:
    return {"results": [on_cued(seed) for seed in SEEDS]}


def on_cued(seed: int) -> dict[str, object]:
    """On how many of the first images that a model answers right each map is better than chance."""
    home, data = Path("runs") / f"cued-seed-{seed}", cued(n=8)
    if not (home / "model.json").is_file():
        vitral("train", "--data", "cued", "--seed", str(seed), "--out", str(home))
    model, test = load(home), data.test
    images = normalise(torch.from_numpy(test.pixels[: 2 * IMAGES].copy()), data.preprocessing)
    with torch.no_grad():
        right = np.flatnonzero(model(images).argmax(1).numpy() == test.labels[: 2 * IMAGES])[:IMAGES]
    trials = Trials(observe(model, images[right], ["feature maps"]))
    occlusion = explain.occlusion(model, images[right])
    rows, columns = occlusion.grid
    masks = test.masks[right].astype(np.float32)
    patches = masks.reshape(len(right), rows, masks.shape[1] // rows, columns, -1).mean(axis=(2, 4))
    counts = {}
    maps = {
        "mask": replace(occlusion, values=patches[:, None, None]),
        "occlusion": occlusion,
        "noise": replace(occlusion, values=np.random.default_rng(0).random(occlusion.values.shape)),
    }
    for name, each in maps.items():
        counts[name] = sum(one.better_than_chance for one in trials.trust(each))
    print(f"   cued, seed {seed}: {counts} of {len(right)}", flush=True)
    return {"seed": seed, "grid": (rows, columns), "images": len(right), "better": counts}
