"""Every way of running ViT-B/16 at 224 px on this machine, measured in turns: `vitral.bench`.

The weights are random: speed does not depend on them, and agreement is that of rounding. What the record says of other
load on the machine is part of it.
"""

import torch
from torch import nn

import vitral
from vitral.base.record import ModelRecord, attach_record

NAME, CLASSES = "vit_base_patch16_224", 1000
SECONDS = 300.0
TARGETS = {"packed-bf16": 1.8, "openvino-bf16": 2.2, "openvino-int8": 3.0}  # times eager float32, at batch 8


def run() -> dict[str, object]:
    torch.manual_seed(0)
    model = vitral.create(NAME).eval()
    nn.init.normal_(model.head.weight, std=0.05)  # a new head is zero, and would agree with everything
    attach_record(model, ModelRecord(tuple(f"class {number}" for number in range(CLASSES)), model.preprocessing))
    found = vitral.bench(model, seconds=SECONDS, progress=True)
    ratios = {str(batch): times_eager(found.to_json()["ways"], batch) for batch in found.batches}
    for batch, by_way in ratios.items():
        for way, ratio in by_way.items():
            print(f"   batch {batch}, {way}: {ratio:.2f} times eager", flush=True)
    print(f"   {found.advice}", flush=True)
    return {"model": NAME, "targets_at_batch_8": TARGETS, "times_eager": ratios, **found.to_json()}


def times_eager(ways: list[dict], batch: int) -> dict[str, float]:
    """Images per second of each way over those of eager PyTorch in float32."""
    speeds = {
        way["way"]: timing["images_per_second"] for way in ways for timing in way["timings"] if timing["batch"] == batch
    }
    return {way: round(speed / speeds["eager"], 3) for way, speed in speeds.items()}
