"""All methods and controls by all metrics on `cued`, three models; and how long a table of five metrics takes.

Trains `vitral train --data cued --seed S` where `runs/cued-seed-S` is not there yet: 22 minutes each
on one thread, beside other work.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.command import vitral
from vitral import explain, load
from vitral.base.lookup import names
from vitral.data.synthetic.cued import cued
from vitral.explain.score_table import Score

SEEDS, IMAGES = (0, 1, 2), 200
TIMED = ("auroc", "pointing_game", "mass_ratio", "deletion", "insertion")


def run() -> dict[str, object]:
    methods, metrics = names("explain.methods"), names("explain.metrics")
    data = cued(n=8)
    runs, tables = [], []
    for seed in SEEDS:
        home = Path("runs") / f"cued-seed-{seed}"
        if not (home / "report.html").is_file():
            vitral("train", "--data", "cued", "--seed", str(seed), "--out", str(home))
        judged = vitral("eval", str(home), "--data", "cued:n=8")
        runs.append({"seed": seed, "test_accuracy": judged["accuracy"], "n": judged["n"]})
        print(f"   seed {seed}: {judged['accuracy']:.2%}", flush=True)
        tables.append(explain.score(methods, metrics, load(home), data, n=IMAGES).scores)
    start = time.perf_counter()
    explain.score(methods, TIMED, load(Path("runs") / "cued-seed-0"), data, n=IMAGES)
    seconds = time.perf_counter() - start
    print(f"   {len(methods)} methods, 4 controls, {len(TIMED)} metrics: {seconds:.0f} s", flush=True)
    return {
        "runs": runs,
        "images": IMAGES,
        "scores": [over_seeds(same) for same in zip(*tables)],
        "timed": {"methods": len(methods), "metrics": TIMED, "seconds": seconds},
    }


def over_seeds(same: Sequence[Score]) -> dict[str, object]:
    """One method by one metric: the mean over the models, each one's own value, how often it beat the controls."""
    values = np.array([one.value for one in same])
    spread = 4.303 * values.std(ddof=1) / len(values) ** 0.5  # Student's t with two degrees of freedom, 95 %
    first = same[0]
    return {
        "method": first.method,
        "metric": first.metric,
        "better": first.better,
        "control": first.control,
        "mean": float(values.mean()),
        "low": float(values.mean() - spread),
        "high": float(values.mean() + spread),
        "values": values.tolist(),
        "within": [[one.low, one.high] for one in same],
        "beats_controls": None if first.beats_controls is None else sum(bool(one.beats_controls) for one in same),
    }
