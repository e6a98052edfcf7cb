"""Few images: from scratch, by a linear probe, and fine-tuned from a model that learned something else.

scikit-learn's digits as PNG files of 48 x 48 in class folders, so many a class to learn from; the model that is started
from is the one that `vitral train` makes of shapes. What it finds is what `vitral train` says before a small folder.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.command import vitral
from vitral.base.intervals import interval

COUNTS, SEEDS = (10, 30, 100), (0, 1, 2)
SIDE, VALIDATION, LARGEST = 48, 20, 120
START = Path("runs") / "small-start"
ARMS = {
    "from scratch": ["--model", "vit_nano_patch8_48"],
    "linear probe": ["--init", str(START), "--epochs", "0"],
    "fine-tuned": ["--init", str(START)],
}
KEPT = Path("src/vitral/training/small.json")  # for `vitral train` to say


def run() -> dict[str, object]:
    if not (START / "report.html").is_file():
        vitral("train", "--out", str(START))
    results = []
    for count in COUNTS:
        runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as home:
                folder = Path(home) / "digits"
                write_digits(folder, count, seed)
                for arm, words in ARMS.items():
                    out = str(Path(home) / arm.replace(" ", "-"))
                    done = vitral("train", "--data", str(folder), "--seed", str(seed), "--out", out, *words)
                    runs[arm].append({"accuracy": done["test_accuracy"], "n": done["n"], "seconds": done["seconds"]})
        for arm, found in runs.items():
            accuracy = float(np.mean([one["accuracy"] for one in found]))
            n = int(sum(one["n"] for one in found))
            results.append({"per_class": count, "arm": arm, "accuracy": accuracy, "runs": found, "n": n})
            results[-1]["interval"] = interval(accuracy, n)
            print(f"   {count} a class, {arm}: {accuracy:.1%}", flush=True)
    said = {arm: {one["per_class"]: round(one["accuracy"], 3) for one in results if one["arm"] == arm} for arm in ARMS}
    KEPT.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return {"counts": COUNTS, "seeds": SEEDS, "results": results}


def write_digits(folder: Path, count: int, seed: int) -> None:
    """`count` a class to learn from, 20 to validate on, and all but the first 120 of a seed's order to test on."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    for label in range(10):
        order = rng.permutation(np.flatnonzero(digits.target == label))
        parts = {"train": order[:count], "val": order[LARGEST - VALIDATION : LARGEST], "test": order[LARGEST:]}
        for split, chosen in parts.items():
            home = folder / split / str(label)
            home.mkdir(parents=True)
            for index in chosen:
                grey = Image.fromarray((digits.images[index] * (255 / 16)).astype(np.uint8))
                grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB").save(home / f"{index}.png")
