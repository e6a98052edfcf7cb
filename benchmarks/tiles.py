"""Scans of 4,096 and 16,384 pixels a side in tiles: CPU seconds, anonymous memory; killed and resumed.

Each in a process of its own, by a light convolutional model. The scan is drawn strip by strip, and never whole in
memory. Its classes mean nothing: time and memory do not depend on what the weights have learned.
"""

import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SIDES = (4_096, 16_384)
BLOCK = 256
MODEL = Path(__file__).with_name("pyramid.py")
PROBES = 6  # tiles that the model alone is timed on


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
    from vitral.data.large.image import open_large_image
    from vitral.tasks.tile import logits_of, predict_tiles

    model = vitral.load(f"{MODEL}:Pyramid")
    loaded = anonymous()
    start, clock = time.process_time(), time.perf_counter()
    with most_anonymous() as most:
        found = predict_tiles(model, image, out, progress=True)
    cpu, seconds = time.process_time() - start, time.perf_counter() - clock
    window = [open_large_image(image).read(0, 0, *found.tile)]
    with torch.inference_mode():
        logits_of(model, window)
        start = time.process_time()
        for _ in range(PROBES):
            logits_of(model, window)
        alone = (time.process_time() - start) / PROBES * found.tiles
    record = {
        "side": found.height,
        "tile": found.tile,
        "context": found.context,
        "tiles": found.tiles,
        "cpu_seconds": round(cpu, 2),
        "seconds": round(seconds, 2),
        "threads": torch.get_num_threads(),
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


def in_a_process(image: Path, out: Path) -> dict:
    script = f"from benchmarks.tiles import measure; measure({str(image)!r}, {str(out)!r})"
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def killed_and_resumed(image: Path, out: Path, rows: int) -> int:
    """Kill the command after a third and after two thirds of its rows of tiles, then let it end; the kills."""
    words = ["predict", f"{MODEL}:Pyramid", str(image), "--tile", "--out", str(out)]
    command = [sys.executable, "-m", "vitral", *words]
    journal, kills = out.with_name(f"{out.name}.partial") / "journal.json", 0
    for at in (rows // 3, 2 * rows // 3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            if journal.is_file() and json.loads(journal.read_text(encoding="utf-8"))["rows_done"] >= at:
                process.kill()
                break
            time.sleep(0.01)
        kills += process.wait() == -signal.SIGKILL
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return kills


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run() -> dict[str, object]:
    results = []
    with tempfile.TemporaryDirectory() as home:
        for side in SIDES:
            image = Path(home) / f"{side}.tif"
            draw(image, side)
            out = Path(home) / "whole.tif"
            results.append(in_a_process(image, out) | {"scan_mb": round(image.stat().st_size / 1e6)})
            print(f"   {json.dumps(results[-1])}", flush=True)
            if side == SIDES[0]:
                kills = killed_and_resumed(image, Path(home) / "parts.tif", round(results[-1]["tiles"] ** 0.5))
                same = sha256(out) == sha256(Path(home) / "parts.tif")
                print(f"   killed {kills} times and resumed: {'identical' if same else 'OTHER'} bytes", flush=True)
            image.unlink()
            out.unlink()
    return {"results": results, "kills": kills, "identical": same}
