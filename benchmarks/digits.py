"""`vitral train --data digits` on three stratified 20 % splits: time and test accuracy."""

import tempfile
from pathlib import Path

from benchmarks.command import vitral

SEEDS = (0, 1, 2)


def run() -> dict[str, object]:
    runs = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as home:
            result = vitral("train", "--data", f"digits:seed={seed}", "--out", str(Path(home) / "run"))
        runs.append({"seed": seed, **{key: result[key] for key in ("test_accuracy", "interval", "n", "seconds")}})
        print(f"   split {seed}: {result['test_accuracy']:.2%} in {result['seconds']:.1f} s", flush=True)
    mean = sum(run["test_accuracy"] for run in runs) / len(runs)
    print(f"   mean {mean:.2%}", flush=True)
    return {"command": "vitral train --data digits:seed=S", "mean": mean, "runs": runs}
