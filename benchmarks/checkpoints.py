"""What checkpoints cost: the share of a run's time, and what resuming adds to reading model and data.

Two runs: the demo's model, and ViT-S/16 at 224 pixels on a few images, whose checkpoint is a hundred times as large.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import vitral
from vitral.tasks import train as task
from vitral.tasks.progress import Progress
from vitral.training import fit as training

RUNS: dict[str, dict[str, Any]] = {
    "vit_nano_patch8_48": dict(data="shapes:n=4000", model="vit_nano_patch8_48", epochs=4),
    "vit_small_patch16_224": dict(data="shapes:n=64,size=224", model="vit_small_patch16_224", epochs=8, batch_size=8),
}
STOPS = 5  # runs that are stopped halfway and resumed


class FirstStep(Progress):
    """When the first step of a run was done."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0.0

    def stepped(self, pace: Any) -> None:
        self.at = self.at or time.perf_counter()


def stop_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(1, 10**6))
    return lambda: next(asked) >= steps


def measure(settings: dict[str, Any], home: Path) -> dict[str, float]:
    """Seconds of saving and of training in one run; and of resuming, beyond what a new run takes to its first step."""
    spent: list[float] = []

    def timed(*arguments: Any) -> None:
        began = time.perf_counter()
        saving(*arguments)
        spent.append(time.perf_counter() - began)

    saving = training.save_checkpoint
    with mock.patch.object(training, "save_checkpoint", timed):
        whole = vitral.train(out=home / "whole", **settings)
    size = max(file.stat().st_size for file in (home / "whole" / "checkpoints").rglob("*") if file.is_file())
    new, resumed = [], []
    for number in range(STOPS):
        out, shown, began = home / f"cut-{number}", FirstStep(), time.perf_counter()
        task.train(out=out, stop=stop_after(whole.steps // 2), progress=shown, **settings)
        new.append(shown.at - began)
        shown, began = FirstStep(), time.perf_counter()
        task.train(resume=out, stop=stop_after(2), progress=shown)
        resumed.append(shown.at - began)
    return {
        "steps": whole.steps,
        "seconds": whole.seconds,
        "saves": len(spent),
        "seconds_of_saving": sum(spent),
        "share": sum(spent) / whole.seconds,
        "checkpoint_megabytes": size / 1e6,
        "to_first_step_new": median(new),
        "to_first_step_resumed": median(resumed),
        "beyond": median(one - other for one, other in zip(resumed, new)),
    }


def run() -> dict[str, object]:
    found = {}
    for name, settings in RUNS.items():
        with tempfile.TemporaryDirectory() as home:
            found[name] = measure(settings, Path(home))
        one = found[name]
        print(
            f"   {name}: {one['saves']} checkpoints of {one['checkpoint_megabytes']:.1f} MB, {one['share']:.2%} of "
            f"{one['seconds']:.0f} s; resuming {one['beyond']:+.2f} s beyond a new run (n = {STOPS})",
            flush=True,
        )
    return {"runs": found, "n": STOPS}
