"""Scans of 4,096 and 16,384 pixels a side in tiles: CPU seconds, anonymous memory; killed and resumed.

Each in a process of its own, by a light convolutional model. The scan is drawn strip by strip, and never whole in
memory. Its classes mean nothing: time and memory do not depend on what the weights have learned.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIDES = (4_096, 16_384)
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # CPU seconds mean work then; waiting threads spin. Bytes may depend on it, too
BLOCK = 256
MODEL = Path(__file__).with_name("pyramid.py")


def blocks(side: int) -> Iterator[np.ndarray]:
    """The scan's blocks row by row: a hundred flat colours in stripes and rings, and a little noise."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (101, 3))
    for top in range(0, side, BLOCK):
        for left in range(0, side, BLOCK):
            y, x = np.mgrid[top : top + BLOCK, left : left + BLOCK]
            which = ((y // 40) * 7 + (x // 56) * 3 + np.hypot(y - side / 2, x - side / 2).astype(int) // 90) % 101
            yield (colours[which] + rng.integers(-8, 9, (BLOCK, BLOCK, 1))).clip(0, 255).astype(np.uint8)


def draw(path: Path, side: int) -> None:
    import tifffile

    shape = dict(shape=(side, side, 3), dtype=np.uint8, photometric="rgb", tile=(BLOCK, BLOCK))
    tifffile.imwrite(path, blocks(side), compression="zlib", metadata=None, maxworkers=1, **shape)


def measure(image: str, out: str) -> None:
    """Predict a scan in this process; print the record as JSON."""
    import torch

    import vitral
    from benchmarks.memory import anonymous, most_anonymous
    from vitral.tasks import tile

    model, predict_logits, alone = vitral.load(f"{MODEL}:Pyramid"), tile.logits_of, 0.0

    def timed(*arguments: Any) -> Any:
        nonlocal alone
        began = time.process_time()
        logits = predict_logits(*arguments)
        alone += time.process_time() - began
        return logits

    tile.logits_of = timed  # the model's own share of the time
    loaded = anonymous()
    start, clock = time.process_time(), time.perf_counter()
    with most_anonymous() as most:
        found = tile.predict_tiles(model, image, out, progress=True)
    cpu, seconds = time.process_time() - start, time.perf_counter() - clock
    record = {
        "side": found.height,
        "tile": found.tile,
        "context": found.context,
        "tiles": found.tiles,
        "cpu_seconds": round(cpu, 2),
        "seconds": round(seconds, 2),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "model_cpu_seconds": round(alone, 2),
        "model_share": round(alone / cpu, 3),
        "pixels_per_cpu_second": round(found.height * found.width / cpu),
        "anonymous_loaded_mb": round(loaded / 1e6, 1),
        "anonymous_most_mb": round(most[-1] / 1e6, 1),
        "anonymous_above_loaded_mb": round((most[-1] - loaded) / 1e6, 1),
        "largest_difference_at_seams": found.seams.largest,
        "pixels_that_differ_at_seams": found.seams.share,
    }
    print(json.dumps(record))


def in_a_process(image: Path, out: Path, environment: dict[str, str]) -> dict:
    script = f"from benchmarks.tiles import measure; measure({str(image)!r}, {str(out)!r})"
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def killed_and_resumed(image: Path, out: Path, rows: int, environment: dict[str, str]) -> int:
    """Kill the command after a third and after two thirds of its rows of tiles, then let it end; the kills."""
    words = ["predict", f"{MODEL}:Pyramid", str(image), "--tile", "--out", str(out)]
    command = [sys.executable, "-m", "vitral", *words]
    quiet = dict(env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, kills = out.with_name(f"{out.name}.partial") / "journal.json", 0
    for at in (rows // 3, 2 * rows // 3):
        process = subprocess.Popen(command, **quiet)
        while process.poll() is None:
            if journal.is_file() and json.loads(journal.read_text(encoding="utf-8"))["rows_done"] >= at:
                process.kill()
                break
            time.sleep(0.01)
        kills += process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, **quiet)
    return kills


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run() -> dict[str, object]:
    results = []
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | ONE_THREAD
        for side in SIDES:
            image = Path(home) / f"{side}.tif"
            draw(image, side)
            out = Path(home) / "whole.tif"
            results.append(in_a_process(image, out, environment) | {"scan_mb": round(image.stat().st_size / 1e6)})
            print(f"   {json.dumps(results[-1])}", flush=True)
            if side == SIDES[0]:
                rows = round(results[-1]["tiles"] ** 0.5)
                kills = killed_and_resumed(image, Path(home) / "parts.tif", rows, environment)
                same = sha256(out) == sha256(Path(home) / "parts.tif")
                print(f"   killed {kills} times and resumed: {'identical' if same else 'OTHER'} bytes", flush=True)
            image.unlink()
            out.unlink()
    return {"results": results, "kills": kills, "identical": same}
