"""Accuracy of a trained ViT whose tokens are merged, by the number r that each block merges; and its speed.

`vit_nano_patch4_32` (64 patches and CLS, 4 blocks), trained on `shapes` of 32 px by `vitral train`, without merging.
"""

import tempfile
from pathlib import Path

import torch

from benchmarks.command import vitral
from benchmarks.high_resolution import compare, run_on
from vitral import load
from vitral.base.record import attach_record
from vitral.data.spec import find_data
from vitral.nn.high_resolution.token_merging import MergingViT
from vitral.store.classifier import answers

MODEL, DATA = "vit_nano_patch4_32", "shapes:size=32"
MERGED = (0, 2, 4, 6, 8, 10, 12, 15)  # of 65 tokens, four times; 15 leaves 5
BATCH = 64


def run(rounds: int = 11) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as home:
        folder = str(Path(home) / "run")
        trained = vitral("train", "--data", DATA, "--model", MODEL, "--out", folder)
        model = load(folder)
    test = find_data(DATA).test
    images = torch.randn(BATCH, 3, *model.preprocessing.size)
    plain, found = run_on(model, images), {}
    for r in MERGED:
        merged = attach_record(MergingViT(model, r).eval(), model.record)
        right = answers(merged, test.pixels).argmax(axis=1) == test.labels
        speed = compare(f"r = {r}, without / with", run_on(merged, images), plain, rounds)
        print(f"      accuracy {right.mean():.1%}", flush=True)
        found[f"r={r}"] = {"accuracy": float(right.mean()), "n": len(right), **speed}
    return {"model": MODEL, "data": DATA, "trained": trained["figures"]["accuracy"], "merged": found}
