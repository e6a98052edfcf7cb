"""`vitral train` with no options but the seeds of data and training: time and test accuracy."""

import tempfile
from pathlib import Path

from benchmarks.command import vitral

SEEDS = (0, 1, 2)


def run() -> dict[str, object]:
    runs = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as home:
            data = "shapes" if seed == 0 else f"shapes:seed={seed}"
            out = str(Path(home) / "run")
            result = vitral("train", "--data", data, "--seed", str(seed), "--out", out)
            curve = vitral_curve(Path(out) / "metrics.jsonl")
        runs.append(
            {
                "seed": seed,
                **{key: result[key] for key in ("test_accuracy", "interval", "n", "seconds")},
                "curve": curve,
            }
        )
        print(f"   seed {seed}: {result['test_accuracy']:.2%} in {result['seconds']:.1f} s", flush=True)
    return {"command": "vitral train --data shapes:seed=S --seed S", "runs": runs}


def vitral_curve(path: Path) -> list[tuple[int, float]]:
    """Step and validation accuracy."""
    import json

    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(record["step"], record["accuracy"]) for record in records if "best" in record]
