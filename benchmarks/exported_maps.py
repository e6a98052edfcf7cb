"""What `--maps` costs: an exported model with rows of attention beside the same model without, interleaved."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.paired import paired
from vitral import create
from vitral.base.record import ModelRecord, attach_record
from vitral.exporting.graphs import Answering
from vitral.exporting.maps import AnsweringWithMaps, plan_maps
from vitral.exporting.to_onnx import ANY, write_graph
from vitral.store.artifact import INPUT, LOGITS
from vitral.store.runtimes.onnx import OnnxSession

MODELS = {
    "vit_base_patch16_224": "the row of CLS",
    "simplevit_base_patch16_224": "the mean of all rows",
    "vit_base_patch16_siglip_224": "the mean of all rows, and the pool's query",
    "swin_tiny_patch4_window7_224": "the mean of all rows, in windows",
}
BATCHES = {1: 20, 8: 4}  # images at once, and rounds


def run() -> dict[str, Any]:
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "rows": MODELS, "cost": {}}
    for name in MODELS:
        torch.manual_seed(0)
        model = create(name, num_classes=10).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.05)
        attach_record(model, ModelRecord(tuple(map(str, range(10))), model.preprocessing))
        plan = plan_maps(model, "all of it")
        images = torch.randn(2, 3, *model.preprocessing.size)
        with tempfile.TemporaryDirectory() as folder:
            plain, maps = Path(folder) / "plain.onnx", Path(folder) / "maps.onnx"
            write_graph(Answering(model), images, {0: ANY}, plain, [INPUT], ["probabilities", LOGITS])
            names = ["probabilities", LOGITS, *plan.maps.names]
            write_graph(AnsweringWithMaps(model, plan), images, {0: ANY}, maps, [INPUT], names)
            without, with_maps = OnnxSession(plain), OnnxSession(maps)
        found["cost"][name] = {}
        for batch, rounds in BATCHES.items():
            pixels = torch.randn(batch, *images.shape[1:]).numpy()
            given = {INPUT: pixels}
            times = paired(partial(without.run, given), partial(with_maps.run, given), rounds)
            times["residual"] = float(with_maps.run(given, ["residual"])["residual"].max())
            found["cost"][name][f"batch {batch}"] = times
            print(f"  {name}, batch {batch}: {times['ratio']:.3f} times as long {times['interval']}", flush=True)
    return found
