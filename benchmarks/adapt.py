"""Regret of `--adapt auto` against the best of probe, LoRA and full fine-tuning: `python -m benchmarks.adapt [PRESET]`.

A small ViT is trained on five classes of Fashion-MNIST, then adapted to the other five, to `shapes` and to `cued`: each
from few images, each judged on at least 2,000 test images, by each of the three ways and by `auto`. The regret is the
accuracy of the best of the three minus that of `auto`. Without Debian's package `dataset-fashion-mnist` nothing runs,
and a sentence says so.
"""

import json
import sys
import tempfile
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

import vitral
from benchmarks.fashion_mnist import CLASSES, SOURCE, read_idx
from vitral.base.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "adapt.json"
WAYS = ("probe", "lora", "full")
SETS = {"clothes": dict(epochs=20), "shapes": dict(epochs=10), "cued": dict(epochs=10)}
# (images that the start is trained on, per class; its epochs; images that are adapted to; seeds; share of the epochs)
PRESETS = {"smoke": (20, 1, 200, 1, 0.1), "quick": (1200, 6, 1000, 1, 1.0), "full": (4000, 20, 2000, 3, 1.0)}
HELD_OUT = (1000, 2500)  # validation and test images of the clothes


def write_splits(home: Path, classes: tuple[str, ...], counts: dict[str, int], seed: int = 0) -> Path:
    """Write `home/SPLIT/CLASS/NUMBER.png` with so many images of these classes per split, each image once."""
    pixels, labels = (
        np.concatenate([read_idx(SOURCE / f"{part}-{kind}-ubyte.gz") for part in ("train", "t10k")])
        for kind in ("images-idx3", "labels-idx1")
    )
    rng = np.random.default_rng(seed)
    for name in classes:
        order = iter(rng.permutation(np.flatnonzero(labels == CLASSES.index(name))))
        for split, count in counts.items():
            folder = home / split / name
            folder.mkdir(parents=True)
            for _, index in zip(range(count // len(classes)), order):
                Image.fromarray(pixels[index]).save(folder / f"{index:05}.png")
    return home


def adapt_by(way: str, **settings: Any) -> dict[str, Any]:
    """One run: its test accuracy, how long it took from start to end, and what `auto` said."""
    start = perf_counter()
    result = vitral.train(adapt=way, **settings)
    said = [note for note in result.notes if note.startswith("--adapt auto")]
    # The report of a run is not part of how it adapts.
    return {"accuracy": result.test_accuracy, "n": result.n, "seconds": round(perf_counter() - start, 1), "said": said}


def run(preset: str = "full") -> dict[str, Any] | None:
    """The runs of each data set and seed, and the regrets; None without the package."""
    if not SOURCE.is_dir():
        print(f"{SOURCE} is not there: apt-get install dataset-fashion-mnist. Nothing was run.")
        return None
    per_class, epochs, images, seeds, share = PRESETS[preset]
    found = []
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        first, second = CLASSES[::2], CLASSES[1::2]
        known = write_splits(home / "known", first, {"train": 5 * per_class, "val": 500, "test": 500})
        began = vitral.train(
            data=str(known), model="vit_nano_patch8_48", img_size=48, epochs=epochs, agreed=True, out=home / "start"
        )
        print(f"   start: {began.summary}", flush=True)
        for name, settings in SETS.items():
            for seed in range(seeds):
                data = f"{name}:n={images},seed={seed}"
                if name == "clothes":
                    counts = dict(zip(("train", "val", "test"), (images, *HELD_OUT)))
                    data = str(write_splits(home / f"clothes{seed}", second, counts, seed))
                own = dict(data=data, init=str(home / "start"), seed=seed, epochs=settings["epochs"] * share)
                runs = {way: adapt_by(way, **own, out=home / f"{name}-{seed}-{way}") for way in (*WAYS, "auto")}
                best = max(runs[way]["accuracy"] for way in WAYS)
                found.append({"data": name, "seed": seed, "regret": best - runs["auto"]["accuracy"], "runs": runs})
                figures = ", ".join(f"{way} {one['accuracy']:.1%}" for way, one in runs.items())
                print(f"   {name}, seed {seed}: {figures}; {runs['auto']['said'][-1]}", flush=True)
    regrets = [one["regret"] for one in found]
    print(f"   regret: mean {mean(regrets):.2%}, worst {max(regrets):.2%}", flush=True)
    origin = {key: provenance()[key] for key in ("machine", "versions", "time")}
    return origin | {
        "preset": preset,
        "start": began.figures["accuracy"],
        "regret": {"mean": mean(regrets), "worst": max(regrets), "n": len(regrets)},
        "runs": found,
    }


if __name__ == "__main__":
    result = run(*sys.argv[1:2])
    if result is not None and result["preset"] == "full":
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
