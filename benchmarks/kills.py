"""A run that is killed 50 times at random moments, also while it saves, against one that is not: are the weights equal?

A folder of noisy pictures, a small ViT, and everything that must be drawn again after a stop: strong augmentation,
CutMix, balanced sampling, a moving average. Each time the process is killed (SIGKILL) up to a second after its first
new step, and the run is resumed.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

KILLS, LONGEST = 50, 1.0  # seconds after the first new step
EPOCHS, IMAGES, BATCH, SIDE = 350, 160, 16, 16
WORDS = (
    *("--model", "vit_nano_patch4_32", "--img-size", SIDE, "--batch-size", BATCH, "--epochs", EPOCHS, "--ema", 0.99),
    *("--augment", "photo_strong", "--mix", "cutmix", "--sampling", "balanced", "--precision", "float32"),
)


def paint(home: Path) -> Path:
    """Pictures in two classes, of which one has a quarter of the images."""
    draw = np.random.default_rng(0)
    for number in range(IMAGES):
        name, shade = ("dark", 60) if number % 4 else ("light", 190)
        pixels = draw.normal(shade, 40, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
        (home / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(home / name / f"{number}.png")
    return home


def start(home: Path, *words: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "vitral", "train", *map(str, words)]
    return subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def logged(run: Path) -> int:
    """Bytes of the log, which grows with the first evaluation."""
    path = run / "metrics.jsonl"
    return path.stat().st_size if path.is_file() else 0


def newest(run: Path) -> str:
    return max((path.name for path in (run / "checkpoints").glob("step-*")), default="none")


def kill(home: Path, run: Path, words: tuple[object, ...], generator: random.Random) -> bool:
    """Start, wait for a step, kill; whether it was killed rather than finished before."""
    before, process = newest(run), start(home, *words)
    while process.poll() is None and newest(run) == before:
        time.sleep(0.01)
    time.sleep(generator.uniform(0, LONGEST))
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def run() -> dict[str, object]:
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        paint(home / "photos")
        begun = time.perf_counter()
        assert start(home, "--data", "photos", *WORDS, "--out", "whole").wait() == 0
        seconds = time.perf_counter() - begun
        broken, at = home / "broken", []
        words: tuple[object, ...] = ("--data", "photos", *WORDS, "--out", "broken")
        for number in range(KILLS):
            if not kill(home, broken, words, generator):
                break
            words = ("--resume", "broken")
            at.append(newest(broken))
            if number % 10 == 9:
                print(f"   {number + 1} kills, checkpoint {at[-1]}", flush=True)
        assert start(home, "--resume", "broken").wait() == 0
        names = ("model.safetensors", f"checkpoints/{newest(home / 'whole')}/weights.safetensors")
        equal = {
            name: all(
                np.array_equal(values, load_file(broken / name)[key])
                for key, values in load_file(home / "whole" / name).items()
            )
            for name in names
        }
    print(f"   {len(at)} kills; bit-equal: {equal}; the whole run took {seconds:.0f} s", flush=True)
    return {"kills": len(at), "checkpoints": at, "bit-equal": equal, "seconds of the whole run": round(seconds, 1)}
